"""What runs in any process that computes for a driver elsewhere: it makes a worker and feeds it with units."""

from __future__ import annotations

import io
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain
from typing import Any

from pipeline import library_messages
from pipeline.errors import PipelineError, of_stage
from pipeline.execution.recipes import Recipe
from pipeline.execution.units import Unit
from pipeline.progress import silently


class Line(ABC):
    """The process's connection to its driver. Several threads may use it.

    Kinds of messages are ``waits`` and ``asks``, each of which is answered by a unit or by None; ``row``; ``ended``,
    after the last row of a stream; ``said``, a line to print; and at the end ``refused`` with an error, if the work
    cannot be done here, or ``fault`` with a reason and a traceback.
    """

    def __init__(self) -> None:
        self._asking = threading.Lock()

    @abstractmethod
    def send(self, kind: str, value: Any = None) -> None:
        """Send a message."""

    @abstractmethod
    def receive(self) -> Any:
        """Wait for the next message of the driver.

        Raises:
            PipelineError: the message cannot be used here.
        """

    def next_unit(self, *, waits: bool) -> Unit | None:
        """The next unit; None if there is none now. A worker with nothing in hand ``waits`` for one."""
        with self._asking:
            self.send("waits" if waits else "asks")
            unit: Unit | None = self.receive()
            return unit

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
                self._line.send("said", each)
        return len(text)


def work(recipe: Recipe, line: Line) -> None:
    """Work for the driver until it has no more units."""
    try:
        library_messages.route()
        with silently():
            worker = recipe.worker()
            while (first := line.next_unit(waits=True)) is not None:
                for row in worker.rows(chain([first], line.further())):
                    line.send("row", row)
                line.send("ended")
    except PipelineError as error:
        error.remedy = of_stage(error.remedy, recipe.stage)
        line.send("refused", error)
    except Exception as error:
        line.send("fault", _told(error))


def forward_errors(line: Line) -> None:
    """From now on, what this process prints on standard error is printed by the driver."""
    sys.stderr = _Forwarded(line)


def _told(error: Exception) -> tuple[str, str]:
    """What went wrong in one line, and its traceback."""
    reason = (str(error).strip() or "no reason given").splitlines()[0]
    return f"{type(error).__name__}: {reason}", "".join(traceback.format_exception(error))
