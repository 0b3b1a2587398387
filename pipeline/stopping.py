"""Ctrl-C, SIGTERM and SIGHUP end a command in the same way: finished rows are kept, and the same command continues."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType


class ExitCode(IntEnum):
    """Exit codes of a command that no signal ended."""

    SUCCESS = 0
    QUESTIONS_FAILED = 1
    """Everything else is done and written."""
    CANNOT_RUN = 2
    FAULT = 3
    """An error of this program, whose traceback is printed."""


class Stopped(KeyboardInterrupt):
    """Raised by a signal that asks the process to end. Handled wherever Ctrl-C is."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def stop_code(stop: KeyboardInterrupt) -> int:
    """The exit code by the convention of shells: 128 + the signal's number, so 130 for Ctrl-C."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def signals_stop() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into :class:`Stopped` in the main thread.

    An ignored signal stays ignored: ``nohup gens ...`` survives the terminal.
    """
    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            try:
                before[number] = signal.signal(number, _stop)
            except ValueError:  # not the main thread: whoever called us there handles signals
                break
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)
