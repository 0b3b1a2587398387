"""What is known of a run before it begins: what is missing, what does not fit, what it will take.

Nothing here loads a model, imports torch or writes into a run folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad a finding is; the worst one is the exit code."""

    NOTE = 0
    """Good to know."""
    SOME_FAIL = 1
    """The run will finish, and some questions will fail."""
    CANNOT_RUN = 2
    """The run cannot start as it is configured."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be, or not as one might think."""

    level: Level
    problem: str
    remedy: str
    """What to do, with the exact override where there is one; empty where there is nothing to do."""
    places: tuple[str, ...] = ()
    """Files or questions that it is about, one a line."""
