"""Progress of long work: a bar with the remaining time on a terminal, plain lines elsewhere.

Work that takes less than :data:`SECONDS_BETWEEN_LINES` leaves no line behind, so that a short command ends on
its result.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from pipeline.terminal import console, remark

SECONDS_BETWEEN_LINES = 15.0

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Step:
    """A part of the work on one video that is done."""

    video: str
    """Path."""
    what: str
    """What is counted: frames that are ``decoded``, ``windows`` that a sampler has read, or ``frames`` that it has
    scored."""
    done: int
    total: int
    """Of all, as far as it is known before; at least ``done``."""


_steps: ContextVar[Callable[[Step], None] | None] = ContextVar("steps", default=None)
_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silently() -> Iterator[None]:
    """Within this context, no progress is shown."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


@contextmanager
def steps_told(to: Callable[[Step], None]) -> Iterator[None]:
    """Within this context, ``to`` is called in the thread that computes, often also where nothing has changed.

    What it raises ends the computation.
    """
    token = _steps.set(to)
    try:
        yield
    finally:
        _steps.reset(token)


def step(video: str, what: str, done: int, total: int) -> None:
    """Tell whoever follows the work on a video how far it is."""
    to = _steps.get()
    if to is not None:
        to(Step(video, what, done, max(done, total)))


def note(text: str) -> None:
    """Print a line on standard error, where progress is shown."""
    if not _silent.get():
        remark(text)


@contextmanager
def track(what: str, total: int) -> Iterator[Advance]:
    """Show progress on standard error; call what is yielded with the number of things just done."""
    if _silent.get():
        yield lambda count: None
    elif sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        yield _lines(what, total)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Advance]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
    elapsed = time.monotonic() - began
    if elapsed >= SECONDS_BETWEEN_LINES:  # the bar is gone from the screen
        remark(f"{what}: {int(progress.tasks[0].completed)}/{total}, {clock_text(elapsed)} elapsed")


def _lines(what: str, total: int) -> Advance:
    began = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        is_long = now - began >= SECONDS_BETWEEN_LINES
        if count and is_long and (done >= total or now - last >= SECONDS_BETWEEN_LINES):
            last = now
            elapsed = now - began
            left = elapsed / done * max(total - done, 0)
            remaining = f", about {clock_text(left)} left" if left else ""
            remark(f"{what}: {done}/{total}, {clock_text(elapsed)} elapsed{remaining}")

    return advance


def clock_text(seconds: float) -> str:
    """``75.2`` is ``"1:15"``, ``3675`` is ``"1:01:15"``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
