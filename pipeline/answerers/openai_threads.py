"""Several requests under way at once, each in a thread that waits for the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

from pipeline.answerers.ahead import ahead

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Failed:
    error: BaseException


class _Ended:
    """A worker says that it has ended."""


_ENDED: Final = _Ended()


def each(work: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> Generator[Result, None, None]:
    """``work`` of each item, in any order, each result as soon as it is finished.

    Items are drawn in one other thread, at most ``at_once`` + 1 of them before their results are taken. After an error
    nothing more is begun; what is under way is finished and given first, because it is paid for.

    The workers are daemon threads: a command that ends does not wait for a server.
    """
    return _Workers(work, at_once).results(items)


class _Workers(Generic[Item, Result]):
    def __init__(self, work: Callable[[Item], Result], at_once: int) -> None:
        self._work = work
        self._at_once = at_once
        self._room = threading.Semaphore(at_once)  # for results that nobody has taken yet
        self._drawing = threading.Lock()
        self._stopped = threading.Event()
        self._done: SimpleQueue[Result | _Failed | _Ended] = SimpleQueue()

    def results(self, items: Iterable[Item]) -> Generator[Result, None, None]:
        drawn = ahead(items, lambda item: item, 1)
        for _ in range(self._at_once):
            threading.Thread(target=self._run, args=(drawn,), daemon=True).start()
        failure: BaseException | None = None
        running = self._at_once
        try:
            while running:
                given = self._done.get()
                if isinstance(given, _Ended):
                    running -= 1
                elif isinstance(given, _Failed):
                    failure = given.error if failure is None else failure
                else:
                    yield given
                    self._room.release()
        finally:
            self._stop()
            with self._drawing:  # not while a worker draws
                drawn.close()
        if failure is not None:
            raise failure

    def _run(self, drawn: Iterator[Item]) -> None:
        try:
            while True:
                self._room.acquire()
                with self._drawing:
                    if self._stopped.is_set():
                        return
                    item = next(drawn)
                self._done.put(self._work(item))
        except StopIteration:
            return
        except BaseException as error:
            self._done.put(_Failed(error))
            self._stop()
        finally:
            self._done.put(_ENDED)

    def _stop(self) -> None:
        self._stopped.set()
        self._room.release(self._at_once)
