"""Frames of a video in order, decoded in worker processes ahead of their use."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.execution.jobs import Decoded
from pipeline.execution.processes import Crash, Pool, Task

Failure = Crash | BaseException | None


@dataclass(eq=False)
class Unit:
    """A part of a stream, which one task decodes. Filled in the thread of the pool."""

    count: int
    """Frames that it has if none fails."""
    changed: threading.Condition
    parts: deque[tuple[list[Decoded], int]] = field(default_factory=deque)
    failure: Failure = None
    has_ended: bool = False
    task: Task | None = None
    """None once it is over: a task holds its unit, and the files in memory that it needs would stay until garbage is
    collected."""
    drop: Callable[[int], None] | None = None
    """Once nobody waits for it any more: called with the bytes of what is still delivered."""

    def on_part(self, part: list[Decoded], size: int) -> None:
        """Keep a part of the result."""
        with self.changed:
            if self.drop is None:
                self.parts.append((part, size))
                self.changed.notify_all()
                return
        self.drop(size)

    def on_end(self, failure: Failure) -> None:
        """Note the end."""
        with self.changed:
            self.failure = failure
            self.has_ended = True
            self.task = None
            self.changed.notify_all()


class UnitStream:
    """What the units of one stream give, in order. Decoding begins at once, as far as memory allows.

    Args:
        pool: that decodes.
        units: with their tasks.
        last_failure: raised after the last unit, if it is an error.
        failed: the error for what went wrong in a worker.
    """

    def __init__(
        self,
        pool: Pool,
        units: Sequence[Unit],
        last_failure: BaseException | None,
        failed: Callable[[Crash | BaseException], BaseException],
    ) -> None:
        self._pool = pool
        self._units = deque(units)
        self._last_failure = last_failure
        self._failed = failed
        self._items: deque[Decoded] = deque()
        self.given = 0
        """Items so far."""
        pool.submit([task for unit in units if (task := unit.task)])

    def __iter__(self) -> Iterator[Decoded]:
        return self

    def __next__(self) -> Decoded:
        while not self._items:
            if not self._units:
                failure, self._last_failure = self._last_failure, None
                if failure is not None:
                    raise failure
                raise StopIteration
            self._wait(self._units[0])
        self.given += 1
        return self._items.popleft()

    def ready(self, count: int) -> bool:
        """Whether the next ``count`` items, or all that are left, can be had without waiting."""
        there = len(self._items)
        for unit in list(self._units):
            with unit.changed:
                there += sum(len(part) for part, _ in unit.parts)
                if there >= count or unit.failure is not None:
                    return True
                if not unit.has_ended:
                    return False
        return True

    def close(self) -> None:
        """Decode no more, and free what is waiting."""
        self._items.clear()
        self._last_failure = None
        self.close_later()

    def close_later(self) -> None:
        """As :meth:`close`, of what was not received yet."""
        units = list(self._units)
        self._units.clear()
        self._pool.cancel([task for unit in units if (task := unit.task)])
        for unit in units:
            with unit.changed:
                unit.task = None
                unit.drop = self._pool.taken
                freed = sum(size for _, size in unit.parts)
                unit.parts.clear()
            self._pool.taken(freed)

    def __del__(self) -> None:
        if self._units:
            self.close()

    def _wait(self, unit: Unit) -> None:
        """Take the next part of the first unit, or its end."""
        with unit.changed:
            if not unit.parts and not unit.has_ended and unit.task is not None:
                self._pool.hurry(unit.task)
            while not unit.parts and not unit.has_ended:
                unit.changed.wait()
            part, size = unit.parts.popleft() if unit.parts else ([], 0)
            is_over = unit.has_ended and not unit.parts
            failure = unit.failure if is_over else None
        if size:
            self._pool.taken(size)
        self._items.extend(part)
        if is_over:
            self._units.popleft()
        if failure is not None:
            self.close_later()
            self._last_failure = self._failed(failure)
