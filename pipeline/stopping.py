"""Ctrl-C, SIGTERM and SIGHUP end a command alike: finished rows are kept, and the same command goes on from there."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(KeyboardInterrupt):
    """A signal that asks the process to end. Handled wherever Ctrl-C is."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def stop_code(stop: KeyboardInterrupt) -> int:
    """The exit code that shells give: 128 and the signal's number, 130 for Ctrl-C."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def signals_stop() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into :class:`Stopped` in the main thread.

    A signal that is ignored stays so: ``nohup gens ...`` survives the terminal.
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
