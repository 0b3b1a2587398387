"""Copies of a worker process that do a piece of work each and end. A copy starts in milliseconds, with all imports."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from pipeline.execution.worker import die_with


class Fork:
    """A copy of this process, which must have no other threads, at work beside it.

    Args:
        work: whose result can be pickled.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        parent = os.getpid()
        self._process: int | None = None
        source, target = os.pipe()
        self._source: IO[bytes] = os.fdopen(source, "rb")
        with os.fdopen(target, "wb") as given:
            with suppress(OSError):  # the system allows no further process
                self._process = os.fork()
            if self._process == 0:
                _work_and_end(work, given, parent)

    def result(self) -> Any:
        """What the work gives, when it is done; None if it failed."""
        content = self._source.read()
        return pickle.loads(content) if self._ended() == 0 else None

    def close(self) -> None:
        """End the copy if it is still at work."""
        self._source.close()
        if self._process is not None:
            os.kill(self._process, signal.SIGKILL)
            self._ended()

    def _ended(self) -> int | None:
        """How it ended, when it has."""
        if self._process is None:
            return None
        _, status = os.waitpid(self._process, 0)
        self._process = None
        return status


def _work_and_end(work: Callable[[], Any], given: IO[bytes], parent: int) -> NoReturn:
    code = 1
    try:
        die_with(parent)
        given.write(pickle.dumps(work(), 5))
        given.flush()
        code = 0
    finally:
        os._exit(code)


@dataclass(frozen=True)
class ForkedWork:
    """Runs works at once, each in a copy of this process.

    If a copy fails or crashes, there is no result: the caller then does the work itself, and raises the actual error.
    """

    most: int

    def __call__(self, works: Sequence[Callable[[], Any]]) -> list[Any] | None:
        """What each work gives, in order; None if one of them failed."""
        begun: list[Fork] = []
        try:
            for work in works:
                begun.append(Fork(work))
            given = [fork.result() for fork in begun]
        finally:
            for fork in begun:
                fork.close()
        return None if None in given else given
