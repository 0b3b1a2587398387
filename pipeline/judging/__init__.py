"""The third stage: grades answers in free text. It reads a run folder and opens no video, unless a rubric asks to.

A judge compares an answer with the reference of its question. Its grades are a column of their own beside the strict
figure, which counts options alone, and one judge's column is never mixed with another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from pipeline.domain import Grade, Question
from pipeline.identity import digest
from pipeline.video import Reader

JUDGING_VERSION = 1
"""Version of the rules that read a verdict and compare texts. Part of the key of grades. Raise it when some reply or
answer is graded differently than before; the replies of servers are stored, so that no request is sent again."""


@dataclass(frozen=True)
class Scale:
    """The scores that a judge gives."""

    lowest: float
    """Of an answer that is wrong, failed or empty."""
    highest: float


@dataclass(frozen=True)
class GivenAnswer:
    """One answer as a judge is given it. It says nothing of the sampler and the answerer that it comes from."""

    question: Question
    text: str
    """Without thoughts, and not empty."""

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """All that may decide the grade, as JSON values."""
        asked = self.question
        return {
            "question": asked.text,
            "reference": asked.reference,
            "points": list(asked.scoring_points),
            "evidence": [[span.start, span.end] for span in asked.evidence or ()],
            "answer": self.text,
        }

    def key(self, judge: Mapping[str, Any]) -> str:
        """The key of the grade, by the judge's identity."""
        return digest({"judging": JUDGING_VERSION, "judge": dict(judge), "given": dict(self.content)})


@runtime_checkable
class Judge(Protocol):
    """Grades answers: a server's model by a rubric, a rule of texts, or the grades of people."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def label(self) -> str:
        """The name of its column: all that readers need to know of it in a few words."""
        ...

    @property
    def scale(self) -> Scale:
        """The scores that it gives."""
        ...

    @property
    def mean_over(self) -> str | None:
        """The label of the questions over whose values its figure is a mean; None: all answers are pooled."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What readers of the figure should know, a sentence each without its full stop."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """All settings that decide its grades, as JSON values."""
        ...

    def check(self, benchmark: str) -> None:
        """Check before anything is graded that it can grade the answers of a benchmark.

        Raises:
            ConfigError, MissingExtraError: it cannot.
        """
        ...

    def lacks(self, question: Question) -> str | None:
        """What it needs for a grade and the question does not have; None: nothing."""
        ...

    def grade(self, answers: Iterable[GivenAnswer], reader: Reader) -> Iterator[Grade]:
        """One grade for each answer, in any order.

        Raises:
            PipelineError: no answer can be graded.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...
