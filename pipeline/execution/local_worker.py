"""What runs in a process that computes for :mod:`pipeline.execution.local`: it makes a worker and feeds it with units.

It is started through its own entry point, so the driver's main module is never run again: scripts without a main guard
and notebooks may have workers. It ends with its driver, however that one ends.
"""

from __future__ import annotations

import faulthandler
import io
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from itertools import chain
from typing import Any

from pipeline import library_messages
from pipeline.errors import PipelineError
from pipeline.execution.parcels import Parcel, receive
from pipeline.execution.recipes import Recipe
from pipeline.execution.units import Unit
from pipeline.execution.worker import die_with
from pipeline.progress import silently


class Line:
    """The end of the socket to the driver. Several threads may use it.

    The process ends at once where the driver is gone or has closed the socket: threads of libraries and models need not
    be waited for.
    """

    def __init__(self, over: socket.socket) -> None:
        self._over = over
        self._saying = threading.Lock()
        self._asking = threading.Lock()

    def say(self, kind: str, value: Any = None) -> None:
        """Send a message."""
        parcel = Parcel((kind, value))
        try:
            with self._saying:
                parcel.send(self._over)
        except OSError:
            os._exit(0)

    def next_unit(self, *, waits: bool) -> Unit | None:
        """The next unit; None if there is none now. A worker with nothing in hand ``waits`` for one."""
        with self._asking:
            self.say("waits" if waits else "asks")
            unit: Unit | None = self.hear()
            return unit

    def hear(self) -> Any:
        """The next message of the driver."""
        try:
            return receive(self._over)[0]
        except (EOFError, OSError):
            os._exit(0)

    def further(self) -> Iterator[Unit]:
        """Units until there is none for the moment."""
        while (unit := self.next_unit(waits=False)) is not None:
            yield unit


class _Forwarded(io.TextIOBase):
    """A standard error stream whose complete lines the driver prints, each of them once for all workers."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._begun = ""

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        for each in whole:
            if each.strip() and "\r" not in each:  # bars of libraries
                self._line.say("said", each)
        return len(text)


def serve(descriptor: int, driver: int) -> None:
    """Work for the driver until it closes the socket.

    Args:
        descriptor: of the socket, over which the recipe comes first.
        driver: its process id.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(driver)
    faulthandler.enable(2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    line = Line(socket.socket(fileno=descriptor))
    sys.stderr = _Forwarded(line)
    try:
        _work(line.hear(), line)
    except PipelineError as error:
        line.say("refused", error)
    except Exception as error:
        line.say("fault", _told(error))
    line.hear()  # nothing more: the driver closes the socket


def _work(recipe: Recipe, line: Line) -> None:
    library_messages.route()
    with silently():
        worker = recipe.worker()
        while (first := line.next_unit(waits=True)) is not None:
            for row in worker.rows(chain([first], line.further())):
                line.say("row", row)
            line.say("ended")


def _told(error: Exception) -> tuple[str, str]:
    """What went wrong in one line, and its traceback."""
    reason = (str(error).strip() or "no reason given").splitlines()[0]
    return f"{type(error).__name__}: {reason}", "".join(traceback.format_exception(error))
