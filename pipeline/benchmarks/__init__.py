"""Questions, where their videos are, and how answers are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pipeline.domain import Question


@runtime_checkable
class Benchmark(Protocol):
    """A source of questions."""

    @property
    def name(self) -> str:
        """As in its YAML."""
        ...

    def questions(self) -> Sequence[Question]:
        """All questions in a fixed order, ids unique, video paths complete.

        Raises:
            InputError: a row cannot be used; the message says which and why.
        """
        ...
