"""Ctrl-C, SIGTERM and SIGHUP end a command in the same way: finished rows are kept, and the same command continues."""

from __future__ import annotations

import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
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
    """Turn SIGTERM and SIGHUP into :class:`Stopped` in the main thread, and let :func:`noting_interrupts` note Ctrl-C.

    An ignored signal stays ignored: ``nohup gens ...`` survives the terminal.
    """
    before = {}
    for number, handler in ((signal.SIGTERM, _stop), (signal.SIGHUP, _stop), (signal.SIGINT, _interrupt)):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            try:
                before[number] = signal.signal(number, handler)
            except ValueError:  # not the main thread: whoever called us there handles signals
                break
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Interrupts:
    """The first Ctrl-C, which raises nothing.

    Attributes:
        woken: can be read from once it came; None where interrupts are not noted.
    """

    def __init__(self, then: Callable[[], None]) -> None:
        self.woken: socket.socket | None = None
        self._then = then
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
        self._then()
        if self._wakes is not None:
            with suppress(OSError):  # nobody waits any more
                self._wakes.send(b"\0")


@contextmanager
def noting_interrupts(then: Callable[[], None] = lambda: None) -> Iterator[Interrupts]:
    """Within this context, the first Ctrl-C is noted and the second raises ``KeyboardInterrupt`` as usual.

    Notes nothing outside of a command (:func:`signals_stop`), so that a notebook's button stops at once, and in another
    thread than the main one.

    Args:
        then: called by the first one, in the signal handler: it may set an attribute and not much more.

    Raises:
        KeyboardInterrupt: the context is left, and one was noted.
    """
    noted = Interrupts(then)
    is_ours = signal.getsignal(signal.SIGINT) is _interrupt
    if not is_ours or threading.current_thread() is not threading.main_thread():
        yield noted
        return
    noted._wakes, noted.woken = socket.socketpair()
    noted.woken.setblocking(False)
    signal.signal(signal.SIGINT, noted._note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, _interrupt)
        noted._wakes.close()
        noted.woken.close()
    if noted._is_asked:
        raise KeyboardInterrupt


@contextmanager
def telling(noted: Interrupts, tell: Callable[[], None]) -> Iterator[None]:
    """Within this context, ``tell`` is called in another thread as soon as the first Ctrl-C comes.

    A signal handler must not print, and the main thread may compute for long.
    """
    if noted.woken is None or noted._wakes is None:
        yield
        return
    woken = noted.woken

    def wait() -> None:
        select.select([woken], [], [])
        if noted.first():
            tell()

    waiting = threading.Thread(target=wait, name="interrupts", daemon=True)
    waiting.start()
    try:
        yield
    finally:
        noted._wakes.shutdown(socket.SHUT_WR)
        waiting.join()


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)


def _interrupt(_: int, __: FrameType | None) -> None:
    """As Python's own handler; that it is another one says that a command runs."""
    raise KeyboardInterrupt
