"""Failures over all questions: each kind once, with its remedy and its questions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.errors import with_remedy
from pipeline.reports.outlines import Outline

_BETWEEN = with_remedy("", "")
"""Stands between a problem and its remedy in the detail of a failure."""

MOST_EXAMPLES = 8
"""Number of links to questions; the page's filter finds the others."""


@dataclass(frozen=True)
class Failure:
    """One status of one stage with one remedy."""

    stage: str
    status: str
    problem: str
    """As the first question has it; another may name another video or another size."""
    remedy: str
    """Empty where the record says none."""
    questions: tuple[tuple[int, str], ...]
    """Number and id of each card that it happened to, in the order of the page."""
    times: int
    """How often: a question may have failed in several runs."""

    @property
    def examples(self) -> tuple[tuple[int, str], ...]:
        """The first few questions."""
        return self.questions[:MOST_EXAMPLES]


@dataclass
class _Found:
    problem: str
    questions: dict[int, str] = field(default_factory=dict)
    times: int = 0


def failures(found: Iterable[Outline]) -> list[Failure]:
    """The failures of all questions, the most frequent first."""
    kinds: dict[tuple[str, str, str], _Found] = {}
    for outline in found:
        for note in outline.notes:
            problem, _, remedy = note.detail.partition(_BETWEEN)
            kind = kinds.setdefault((note.stage, note.status, remedy), _Found(problem.strip()))
            kind.questions[outline.number] = outline.question.id
            kind.times += 1
    gathered = [
        Failure(stage, status, kind.problem, remedy, tuple(kind.questions.items()), kind.times)
        for (stage, status, remedy), kind in kinds.items()
    ]
    return sorted(gathered, key=lambda failure: -failure.times)
