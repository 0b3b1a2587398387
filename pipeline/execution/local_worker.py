"""The entry point of a process that computes for :mod:`pipeline.execution.local`.

The driver's main module is never run again: scripts without a main guard and notebooks may have workers. The process
ends with its driver, however that one ends.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import socket
import threading
from typing import Any

from pipeline.execution.feeding import Line, forward_errors, work
from pipeline.execution.parcels import Parcel, receive
from pipeline.execution.worker import die_with


class _Socket(Line):
    """The end of the socket to the driver.

    The process ends at once where the driver is gone or has closed the socket: threads of libraries and models need not
    be waited for.
    """

    def __init__(self, over: socket.socket) -> None:
        super().__init__()
        self._over = over
        self._saying = threading.Lock()

    def send(self, kind: str, value: Any = None) -> None:
        parcel = Parcel((kind, value))
        try:
            with self._saying:
                parcel.send(self._over)
        except OSError:
            os._exit(0)

    def receive(self) -> Any:
        try:
            return receive(self._over)[0]
        except (EOFError, OSError):
            os._exit(0)


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
    line = _Socket(socket.socket(fileno=descriptor))
    forward_errors(line)
    work(line.receive(), line)
    line.receive()  # nothing more: the driver closes the socket
