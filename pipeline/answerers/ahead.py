"""Work on the next items while the present ones are used: in memory of a stated size, or several at once."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Pieces = Mapping[int, int]
"""Bytes by piece of memory; results that share a piece use the same key."""


def _nothing(_: Any) -> Pieces:
    return {}


class Ahead(Generic[Item, Result]):
    """The ``work`` of each item, in order, done in another thread before it is needed.

    The items are drawn in that thread too. Errors of drawing and of working are raised by :meth:`take`, in order.

    Args:
        items: drawn one at a time.
        work: called with one item at a time.
        most: the largest number of results that wait to be taken.
        pieces: what a result holds in memory; pieces that results share count once.
        most_bytes: results that wait and results that were taken and not released hold no more than this together,
            where more than one is held. The next result is assumed to be as large as the largest so far. Those that
            were taken hold no more than half of it, so that the other half is left for later ones.
    """

    def __init__(
        self,
        items: Iterable[Item],
        work: Callable[[Item], Result],
        most: int,
        pieces: Callable[[Result], Pieces] = _nothing,
        most_bytes: float = float("inf"),
    ) -> None:
        self._items = iter(items)
        self._work = work
        self._most = most
        self._pieces = pieces
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[Result, Pieces]] = deque()
        self._taken: dict[int, Pieces] = {}
        self._numbers = count()
        self._held: Counter[int] = Counter()  # by piece, how many results hold it
        self._bytes = 0
        self._largest = 0
        self._error: BaseException | None = None
        self._over = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    def take(self, most: int, wait: bool = True) -> list[tuple[int, Result]]:
        """The next results that are there, each with a number for :meth:`release`.

        Args:
            most: the largest number of results.
            wait: for at least one, or until all were taken. Nothing comes while what was taken leaves no memory.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._over or self._fitting(most))
            taken = [(next(self._numbers), *self._waiting.popleft()) for _ in range(self._fitting(most))]
            self._taken |= {number: pieces for number, _, pieces in taken}
            self._changed.notify_all()
            if not self._waiting and not taken and self._error is not None:
                error, self._error = self._error, None
                raise error
            return [(number, result) for number, result, _ in taken]

    def release(self, number: int) -> None:
        """Count a result that was taken as no longer held; let go of it before."""
        with self._changed:
            for piece, size in self._taken.pop(number).items():
                self._held[piece] -= 1
                if not self._held[piece]:
                    del self._held[piece]
                    self._bytes -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Draw no more, and wait for the work that has begun."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._made_one():
                pass
        except BaseException as error:  # raised where the result is waited for
            self._error = error
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _made_one(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._may_go_on())
            if self._closed:
                return False
        for item in self._items:
            result = self._work(item)
            with self._changed:
                self._hold(result)
                self._changed.notify_all()
            return True
        return False

    def _hold(self, result: Result) -> None:
        pieces = self._pieces(result)
        self._largest = max(self._largest, sum(pieces.values()))
        for piece, size in pieces.items():
            self._bytes += 0 if self._held[piece] else size
            self._held[piece] += 1
        self._waiting.append((result, pieces))

    def _may_go_on(self) -> bool:
        """Whether there is room for one more result."""
        held = bool(self._waiting or self._taken)
        return len(self._waiting) < self._most and (not held or self._bytes + self._largest <= self._most_bytes)

    def _fitting(self, most: int) -> int:
        """How many of the waiting results can be taken beside those that are."""
        together: dict[int, int] = {}
        for pieces in self._taken.values():
            together |= pieces
        for number, (_, pieces) in enumerate(self._waiting):
            together |= pieces
            is_alone = not number and not self._taken
            if number == most or (not is_alone and sum(together.values()) > self._most_bytes / 2):
                return number
        return len(self._waiting)


def ahead(items: Iterable[Item], work: Callable[[Item], Result], most: int) -> Generator[Result, None, None]:
    """The ``work`` of each item, one by one; for the arguments see :class:`Ahead`."""
    with closing(Ahead(items, work, most)) as made:
        while taken := made.take(1):
            ((number, one),) = taken
            made.release(number)
            yield one


def pieces_of(value: Any) -> dict[int, int]:
    """The bytes of the arrays and tensors in a value, by piece of memory: views of one array share theirs."""
    if hasattr(value, "untyped_storage"):
        storage = value.untyped_storage()
        return {storage.data_ptr(): storage.nbytes()}
    if hasattr(value, "nbytes") and hasattr(value, "base"):
        whole = value if value.base is None else value.base
        return {id(whole): getattr(whole, "nbytes", value.nbytes)}
    if isinstance(value, Mapping):
        return _joined([*value.values()])
    if isinstance(value, (list, tuple)):
        return _joined(value)
    return _joined([*vars(value).values()]) if dataclasses.is_dataclass(value) else {}


def _joined(parts: Sequence[Any]) -> dict[int, int]:
    found: dict[int, int] = {}
    for part in parts:
        found |= pieces_of(part)
    return found


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
