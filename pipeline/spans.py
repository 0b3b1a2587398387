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


_recordings: list[list[Span]] = []


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
