"""``outcome.json``: how a command ended, in its own run folder, for whoever comes later and may be another process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.artefacts.writing import write_whole
from pipeline.errors import BusyError, StorageError
from pipeline.secrecy import without_secrets

OUTCOME_FILE = "outcome.json"
_ROOM = 2048
"""Bytes that a running command reserves for the words on how it ends."""


class JobStatus(StrEnum):
    """Where a command stands."""

    NOT_STARTED = "not started"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Outcome:
    """How a command ended, or that it has not."""

    status: JobStatus
    code: int | None = None
    """The exit code; none as long as there is none. 1 of a command that is done: some questions failed."""
    problem: str = ""
    remedy: str = ""
    traceback: str = ""
    """Of an error that is none of ours."""

    def told(self) -> dict[str, Any]:
        """What is written of it: no secret."""
        words = {name: without_secrets(getattr(self, name)) for name in ("problem", "remedy", "traceback")}
        return {**asdict(self), **words}


def write_outcome(outcome: Outcome, folder: Path) -> None:
    """Replace what ``folder`` says of its command.

    A command that is running reserves room for how it ends, which is written there where the disk is full by then.

    Raises:
        StorageError: it cannot be written.
    """
    path = folder / OUTCOME_FILE
    content = _content(outcome)
    if outcome.status is JobStatus.RUNNING:
        content = _filled(content, _ROOM)
    try:
        write_whole(content, path, "paths.runs=...")
    except StorageError:
        if not _written_over(path, outcome):
            raise


def _written_over(path: Path, outcome: Outcome) -> bool:
    """Write in the place of the file that is there, which takes no space; whether there is one with room enough."""
    short = replace(outcome, traceback="")
    try:
        room = path.stat().st_size
        for problem in (short.problem, short.problem[:200], ""):
            content = _content(replace(short, problem=problem))
            if len(content) <= room:
                with path.open("r+b") as file:
                    file.write(_filled(content, room))
                return True
    except OSError:
        return False
    return False


def _filled(content: bytes, size: int) -> bytes:
    return content.rstrip(b"\n").ljust(size - 1) + b"\n"


def _content(outcome: Outcome) -> bytes:
    return f"{json.dumps(outcome.told(), indent=2)}\n".encode()


def read_outcome(folder: Path) -> Outcome:
    """What ``folder`` says of its command; not started where it says nothing that can be read."""
    try:
        content = json.loads((folder / OUTCOME_FILE).read_text(encoding="utf-8"))
        return Outcome(**{**content, "status": JobStatus(content["status"])})
    except (OSError, ValueError, TypeError, KeyError):
        return Outcome(JobStatus.NOT_STARTED)


@dataclass
class _Command:
    """The command that runs in this process."""

    held: ExitStack
    folder: Path | None = None
    """Its run folder, once it holds that."""


_command: ContextVar[_Command | None] = ContextVar("command", default=None)


@contextmanager
def telling() -> Iterator[None]:
    """Inside, a run folder that is begun stays held to the end, so that its outcome is written by who holds it."""
    with ExitStack() as held:
        token = _command.set(_Command(held))
        try:
            yield
        finally:
            _command.reset(token)


@contextmanager
def begun(folder: Path) -> Iterator[None]:
    """Hold a run folder, and say in it that its command is running.

    Raises:
        BusyError: another process is at work in it.
        StorageError: it cannot be written.
    """
    from pipeline.artefacts.journal import sole_writer

    command = _command.get() or _Command(ExitStack())
    command.held.enter_context(sole_writer(folder))
    command.folder = folder
    write_outcome(Outcome(JobStatus.RUNNING), folder)
    try:
        yield
    finally:
        if _command.get() is None:
            command.held.close()


def leave(outcome: Outcome, folder: Path) -> None:
    """Write how the command of this process ended, unless another one is at work in ``folder``.

    Raises:
        StorageError: it cannot be written.
    """
    from pipeline.artefacts.journal import sole_writer

    command = _command.get()
    if command is not None and command.folder == folder:
        write_outcome(outcome, folder)
    else:
        with suppress(BusyError), sole_writer(folder):
            write_outcome(outcome, folder)
