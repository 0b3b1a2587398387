"""Benchmarks: their questions, where the videos are, and how answers are counted.

The labels in ``Question.groups`` are those that a benchmark reports by. A label with a slash, such as
``question_type/reasoning``, is one of several that a question may have at once; the question counts in each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

        A row that cannot be used is a question with a ``fault``.

        Raises:
            InputError: the file cannot be read, no row of it can be used, or two have the same id.
        """
        ...


@runtime_checkable
class MeasuredBenchmark(Benchmark, Protocol):
    """A benchmark whose annotations hold the lengths of its videos, so that these are known without a file."""

    def durations(self) -> Mapping[str, float]:
        """Seconds by ``Question.video``; videos of unknown length are left out."""
        ...
