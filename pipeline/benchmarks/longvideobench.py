"""LongVideoBench (arXiv 2407.15754): questions about 8 s to one hour of video, and where their evidence is.

Reads ``lvb_val.json`` (1337 rows) and ``lvb_test_wo_gt.json`` (without answers and evidence). Options are 3 to 5, the
right one is an index.

``position`` lists the evidence frames. Its unit is documented nowhere; it is a clock of 24 a second whatever the
video's own rate: over the validation rows no position exceeds 24.1 times the duration, although most videos run at 25
to 60 frames a second, and selections made for the questions agree best with it at 24. So a second is position / 24. One
row holds a corrupt value of tens of millions, which is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.artefacts.entries import checked, read_entries
from pipeline.benchmarks.annotations import Annotated, chosen, durations, unique, video_file
from pipeline.domain import Question, Span

POSITION_CLOCK = 24.0
"""Positions a second."""
LARGEST_POSITION = 1e7
"""Nearly five days: what is above is no position."""


@dataclass(frozen=True)
class _Row:
    id: str
    video_path: str
    question: str
    candidates: list[str]
    duration: float
    duration_group: int
    question_category: str
    topic_category: str
    level: str
    correct_choice: int | None = None
    position: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class LongVideoBench:
    """The questions of one annotation file."""

    name: str
    path: str
    """``lvb_val.json`` or ``lvb_test_wo_gt.json``."""
    video_root: str | None
    """Folder of the videos; none: ``videos`` beside the file."""

    def questions(self) -> Sequence[Question]:
        """All rows in the order of the file.

        Raises:
            InputError: the file cannot be read, or a row is not as described.
        """
        return [row.question for row in self._annotated]

    def durations(self) -> Mapping[str, float]:
        """Seconds by path of the video, from the annotations."""
        return durations(self._annotated)

    @cached_property
    def _annotated(self) -> tuple[Annotated, ...]:
        file = Path(self.path).expanduser()
        entries = read_entries(file, "benchmark.path")
        return unique((self._row(checked(_Row, value, where), where, file) for where, value in entries), file)

    def _row(self, row: _Row, where: str, file: Path) -> Annotated:
        question = Question(
            id=row.id,
            video=video_file(self.video_root, file, row.video_path),
            text=row.question,
            options=tuple(row.candidates),
            correct=chosen(row.candidates, row.correct_choice, where),
            groups={
                "duration_group": str(row.duration_group),
                "question_category": row.question_category,
                "topic_category": row.topic_category,
                "level": row.level,
            },
            evidence=evidence_of(row.position),
        )
        return Annotated(question, row.duration)


def evidence_of(position: Sequence[int]) -> tuple[Span, ...] | None:
    """A moment each; none where no usable position is left."""
    seconds = [value / POSITION_CLOCK for value in position if value <= LARGEST_POSITION]
    return tuple(Span(second, second) for second in seconds) or None
