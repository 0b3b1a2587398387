"""Where the time of a command goes: what each part was doing, by the monotonic clock, which all processes share.

Nothing is kept unless somebody records, so a span costs next to nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAIN = threading.main_thread().name
WORKER = "worker"
"""How the places of worker processes begin."""


@dataclass(frozen=True)
class Span:
    """One piece of work."""

    name: str
    start: float
    """Seconds of :func:`time.monotonic`."""
    end: float
    place: str
    """The thread that did the work, or a worker."""


class Sums:
    """Seconds of one thread's spans by name. The time of a span within another one counts for the inner one alone."""

    def __init__(self) -> None:
        self._place = threading.current_thread().name
        self._closed: list[tuple[float, float]] = []  # start and length of spans that may lie within one to come
        self._seconds: dict[str, float] = {}

    def append(self, ended: Span) -> None:
        """Count a span that has ended; those within it have ended before."""
        if ended.place != self._place:
            return
        inner = 0.0
        while self._closed and self._closed[-1][0] >= ended.start:
            inner += self._closed.pop()[1]
        length = ended.end - ended.start
        self._closed.append((ended.start, length))
        self._seconds[ended.name] = self._seconds.get(ended.name, 0.0) + length - inner

    def take(self) -> dict[str, float]:
        """The sums since this was last called."""
        taken, self._seconds = self._seconds, {}
        del self._closed[:-_LATEST]
        return taken


_LATEST = 8
"""Spans that may lie within one that has not ended, beyond a call of :meth:`Sums.take`; they are not nested deeper."""
_recordings: list[list[Span] | Sums] = []


@contextmanager
def recording() -> Iterator[list[Span]]:
    """Within this context, the spans of all threads are kept, as they end."""
    kept: list[Span] = []
    _recordings.append(kept)
    try:
        yield kept
    finally:
        _recordings[:] = [each for each in _recordings if each is not kept]


@contextmanager
def summing() -> Iterator[Sums]:
    """Within this context, the spans of this thread are added up."""
    sums = Sums()
    _recordings.append(sums)
    try:
        yield sums
    finally:
        _recordings[:] = [each for each in _recordings if each is not sums]


@contextmanager
def span(name: str) -> Iterator[None]:
    """The work of this context. Spans of one thread may lie within each other."""
    start = time.monotonic()
    try:
        yield
    finally:
        note(name, start, threading.current_thread().name)


def note(name: str, start: float, place: str) -> None:
    """Work that ends now."""
    for kept in _recordings:
        kept.append(Span(name, start, time.monotonic(), place))
