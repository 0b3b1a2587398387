"""Works on the next items while the current ones are used, within a memory limit."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, Generic, TypeVar

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
            where more than one is held. The next result is assumed to be as large as the largest so far.
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
        self._taken: deque[Pieces] = deque()
        self._held: Counter[int] = Counter()  # by piece, how many results hold it
        self._bytes = 0
        self._largest = 0
        self._error: BaseException | None = None
        self._over = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    def take(self, count: int) -> list[Result]:
        """The next results, as soon as they are finished; empty once all were taken.

        Release the results that were taken before first.

        Args:
            count: the largest number. Fewer where these would hold more than half of the memory, so that the
                other half is left for later ones.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._fitting(count)[1] or self._is_full())
            taken = [self._waiting.popleft() for _ in range(self._fitting(count)[0])]
            self._taken.extend(pieces for _, pieces in taken)
            self._changed.notify_all()
            if not taken and self._error is not None:
                error, self._error = self._error, None
                raise error
            return [result for result, _ in taken]

    def release(self, count: int) -> None:
        """Count the oldest results that were taken as no longer held."""
        with self._changed:
            for _ in range(count):
                for piece, size in self._taken.popleft().items():
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

    def _is_full(self) -> bool:
        return bool(self._waiting) and not self._may_go_on()

    def _may_go_on(self) -> bool:
        """Whether there is room for one more result."""
        held = bool(self._waiting or self._taken)
        return len(self._waiting) < self._most and (not held or self._bytes + self._largest <= self._most_bytes)

    def _fitting(self, count: int) -> tuple[int, bool]:
        """How many of the waiting results fit together, and whether no other one could join them."""
        together: dict[int, int] = {}
        for number, (_, pieces) in enumerate(self._waiting):
            more = {**together, **pieces}
            if number == count or (number and sum(more.values()) > self._most_bytes / 2):
                return number, True
            together = more
        return len(self._waiting), len(self._waiting) == count


def ahead(items: Iterable[Item], work: Callable[[Item], Result], most: int) -> Generator[Result, None, None]:
    """The ``work`` of each item, one by one; for the arguments see :class:`Ahead`."""
    with closing(Ahead(items, work, most)) as made:
        while one := made.take(1):
            made.release(1)
            yield one[0]


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
