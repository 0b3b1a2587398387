"""``outcome.json``: how a command ended, in its own run folder, for whoever comes later and may be another process."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

OUTCOME_FILE = "outcome.json"


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


def write_outcome(outcome: Outcome, folder: Path) -> None:
    """Replace what ``folder`` says of its command.

    Raises:
        OSError: it cannot be written.
    """
    temporary = folder / f".{OUTCOME_FILE}.{os.getpid()}.part"
    temporary.write_text(json.dumps(asdict(outcome), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, folder / OUTCOME_FILE)


def read_outcome(folder: Path) -> Outcome:
    """What ``folder`` says of its command; not started where it says nothing that can be read."""
    try:
        content = json.loads((folder / OUTCOME_FILE).read_text(encoding="utf-8"))
        return Outcome(**{**content, "status": JobStatus(content["status"])})
    except (OSError, ValueError, TypeError, KeyError):
        return Outcome(JobStatus.NOT_STARTED)
