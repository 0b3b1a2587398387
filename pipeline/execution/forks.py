"""Copies of a worker process that do a piece of work each and end. A copy starts in milliseconds, with all imports."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.execution.worker import die_with


@dataclass(frozen=True)
class ForkedWork:
    """Runs works at once, each in a copy of this process, which must have no other threads.

    A copy that fails or crashes costs its result; whoever asked then does the work itself, and fails by its own name.
    """

    most: int
    meanwhile: Callable[[], Any]
    """Done by this process itself."""

    def __call__(self, works: Sequence[Callable[[], Any]]) -> list[Any] | None:
        """What each work gives, in order; None if one of them failed."""
        parent = os.getpid()
        begun: list[tuple[int, int]] = []
        try:
            for work in works:
                begun.append(_begun(work, parent))
            self.meanwhile()
        finally:
            given = [_ended(*each) for each in begun]
        return None if None in given else [pickle.loads(each) for each in given if each is not None]


def _begun(work: Callable[[], Any], parent: int) -> tuple[int, int]:
    """Process id, and the descriptor from which the result is read."""
    source, target = os.pipe()
    process = os.fork()
    if process:
        os.close(target)
        return process, source
    code = 1
    try:
        die_with(parent)
        with os.fdopen(target, "wb") as file:
            file.write(pickle.dumps(work(), 5))
        code = 0
    finally:
        os._exit(code)


def _ended(process: int, source: int) -> bytes | None:
    with os.fdopen(source, "rb") as file:
        content = file.read()
    _, status = os.waitpid(process, 0)
    return content if status == 0 else None
