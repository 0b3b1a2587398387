"""``outcome.json``: how a command ended, written into its run folder and read by other processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts.writing import write_whole
from pipeline.errors import BusyError, StorageError
from pipeline.secrecy import without_secrets

if TYPE_CHECKING:
    from pipeline.execution.events import EventLog

OUTCOME_FILE = "outcome.json"
_ROOM = 2048
"""Bytes that a running command reserves for its outcome."""


class JobStatus(StrEnum):
    """The state of a command."""

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
    """The exit code; None while the command runs. A command that is done has 1 if some questions failed."""
    problem: str = ""
    remedy: str = ""
    traceback: str = ""
    """The traceback of an unexpected error."""

    def content(self) -> dict[str, Any]:
        """The fields to write, without secrets."""
        words = {name: without_secrets(getattr(self, name)) for name in ("problem", "remedy", "traceback")}
        return {**asdict(self), **words}


_OUTCOME = TypeAdapter(Outcome)


def write_outcome(outcome: Outcome, folder: Path) -> None:
    """Write the outcome into ``folder``, replacing an earlier one.

    A running command reserves room in the file, so that its end can be written even if the disk is full by then.

    Raises:
        StorageError: it cannot be written.
    """
    path = folder / OUTCOME_FILE
    content = _content(outcome)
    if outcome.status is JobStatus.RUNNING:
        content = _padded(content, _ROOM)
    try:
        write_whole(content, path, "paths.runs=...")
    except StorageError:
        if not _overwritten(path, outcome):
            raise


def _overwritten(path: Path, outcome: Outcome) -> bool:
    """Overwrite the existing file in place, which needs no space. Returns whether it exists and has enough room."""
    short = replace(outcome, traceback="")
    try:
        room = path.stat().st_size
        for problem in (short.problem, short.problem[:200], ""):
            content = _content(replace(short, problem=problem))
            if len(content) <= room:
                with path.open("r+b") as file:
                    file.write(_padded(content, room))
                return True
    except OSError:
        return False
    return False


def _padded(content: bytes, size: int) -> bytes:
    return content.rstrip(b"\n").ljust(size - 1) + b"\n"


def _content(outcome: Outcome) -> bytes:
    return f"{json.dumps(outcome.content(), indent=2)}\n".encode()


def read_outcome(folder: Path) -> Outcome:
    """The outcome written in ``folder``; ``not started`` if there is none that can be read."""
    try:
        return _OUTCOME.validate_json((folder / OUTCOME_FILE).read_bytes())
    except (OSError, ValidationError):
        return Outcome(JobStatus.NOT_STARTED)


@dataclass
class _Command:
    """The command that runs in this process."""

    held: ExitStack
    folder: Path | None = None
    """Its run folder, once it holds one."""
    events: EventLog | None = None


_command: ContextVar[_Command | None] = ContextVar("command", default=None)


@contextmanager
def holding_lock() -> Iterator[None]:
    """Within this context, a run folder stays locked to the end, so that its outcome is written under the lock."""
    with ExitStack() as held:
        token = _command.set(_Command(held))
        try:
            yield
        finally:
            _command.reset(token)


@contextmanager
def running(folder: Path) -> Iterator[EventLog]:
    """Lock a run folder, write into it that its command is running, and record what happens.

    Raises:
        BusyError: another process is using it.
        StorageError: it cannot be written.
    """
    from pipeline.artefacts.journal import sole_writer
    from pipeline.execution.events import recording

    command = _command.get() or _Command(ExitStack())
    command.held.enter_context(sole_writer(folder))
    command.folder = folder
    write_outcome(Outcome(JobStatus.RUNNING), folder)
    command.events = command.held.enter_context(recording(folder))
    try:
        yield command.events
    finally:
        if _command.get() is None:
            command.held.close()


def record_outcome(outcome: Outcome, folder: Path) -> None:
    """Write the outcome of this process's command, unless another process is writing to ``folder``.

    Raises:
        StorageError: it cannot be written.
    """
    from pipeline.artefacts.journal import sole_writer

    command = _command.get()
    if command is not None and command.folder == folder:
        from pipeline.commands.record import record_end

        if command.events is not None:
            command.events.write("end", status=outcome.status, code=outcome.code, problem=outcome.problem)
        record_end(folder)
        write_outcome(outcome, folder)
    else:
        with suppress(BusyError), sole_writer(folder):
            write_outcome(outcome, folder)
