"""Ctrl-C, SIGTERM and SIGHUP end a command in the same way: finished rows are kept, and the same command continues."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


class Interrupts:
    """The first Ctrl-C, which raises nothing.

    Attributes:
        woken: can be read from once it came; None where interrupts are not noted.
    """

    def __init__(self) -> None:
        self.woken: socket.socket | None = None
        self._is_asked = False
        self._wakes: socket.socket | None = None

    def first(self) -> bool:
        """Whether it came."""
        if self.woken is not None:
            with suppress(BlockingIOError):
                self.woken.recv(4096)
        return self._is_asked

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._is_asked:
            raise KeyboardInterrupt
        self._is_asked = True
        if self._wakes is not None:
            self._wakes.send(b"\0")


@contextmanager
def noting_interrupts() -> Iterator[Interrupts]:
    """Within this context, the first Ctrl-C is noted and the second raises ``KeyboardInterrupt`` as usual.

    Notes nothing in another thread than the main one, and where somebody else handles the signal.
    """
    noted = Interrupts()
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_ours or threading.current_thread() is not threading.main_thread():
        yield noted
        return
    noted._wakes, noted.woken = socket.socketpair()
    noted.woken.setblocking(False)
    signal.signal(signal.SIGINT, noted._note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        noted._wakes.close()
        noted.woken.close()


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)
