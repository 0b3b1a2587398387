"""LongVideoBench (arXiv 2407.15754): questions about 8 s to one hour of video, and where their evidence is.

Reads ``lvb_val.json`` (1337 rows), ``lvb_test_wo_gt.json`` (5341, without answers and evidence) and the hub's parquet
files. Those have ``option0`` .. ``option4``, padded with ``N/A``, instead of ``candidates``, and neither ``level`` nor
``position``, so that nothing can be reported by level and no evidence is known. Options are 3 to 5, the right one is an
index.

``position`` lists the evidence frames. Its unit is documented nowhere; it is a clock of 24 a second whatever the
video's own rate: over the validation rows no position exceeds 24.1 times the duration, although most videos run at 25
to 60 frames a second, and selections made for the questions agree best with it at 24. So a second is position / 24. One
row holds a corrupt value of tens of millions, which is left out.

Videos may be cut out of longer ones, whose clock their subtitles keep: ``starting_timestamp_for_subtitles``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import FiniteFloat

from pipeline.artefacts.entries import read_entries
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, Length, of_each
from pipeline.benchmarks.options import indexed
from pipeline.benchmarks.places import VideoFolder, folder
from pipeline.domain import Question, Span, Subtitles
from pipeline.errors import InputError
from pipeline.identity import Place
from pipeline.paths import path_text

POSITION_CLOCK = 24.0
"""Positions a second."""
LARGEST_POSITION = 1e7
"""Nearly five days. Larger values are not positions."""
PADDING = "N/A"
NOT_TOLD = -1
"""The value of the authors' code for the right option in rows of the test set, which have none."""


@dataclass(frozen=True)
class _Row:
    id: str | int
    video_path: str
    question: str
    duration: Length
    duration_group: int
    question_category: str
    topic_category: str
    level: str | None = None
    candidates: list[str] | None = None
    option0: str | None = None
    option1: str | None = None
    option2: str | None = None
    option3: str | None = None
    option4: str | None = None
    correct_choice: int | None = None
    position: list[int] | None = None
    subtitle_path: str | None = None
    starting_timestamp_for_subtitles: FiniteFloat = 0.0

    @property
    def options(self) -> tuple[str, ...]:
        """As listed, or from the padded columns."""
        if self.candidates is not None:
            return tuple(self.candidates)
        columns = [self.option0, self.option1, self.option2, self.option3, self.option4]
        while columns and columns[-1] in (None, PADDING):
            columns.pop()
        return tuple(option or "" for option in columns)


@dataclass(frozen=True)
class LongVideoBench(AnnotatedBenchmark):
    """The questions of one annotation file."""

    subtitle_root: Place[str | None]
    """Folder of the subtitles; None: ``subtitles`` next to the file."""

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row; a question has subtitles where its row names them, whether or not their file is there."""
        videos = VideoFolder(folder(self.video_root, file.parent, "videos"))
        subtitles = folder(self.subtitle_root, file.parent, "subtitles")
        entries = read_entries(file, OVERRIDE)
        return of_each(entries, lambda entry: [_annotated(entry.as_kind(_Row), entry.where, videos, subtitles)])


def _annotated(row: _Row, where: str, videos: VideoFolder, subtitle_folder: Path) -> Annotated:
    options = row.options
    if len(options) < 2 or not all(options):
        what = f"{len(options)} options" if len(options) < 2 else "an option has no text"
        raise InputError(f"{where}: candidates: {what}", "correct the row, or fetch the annotations again")
    subtitles = None
    if row.subtitle_path is not None:
        start = row.starting_timestamp_for_subtitles
        subtitles = Subtitles(path_text((subtitle_folder / row.subtitle_path).absolute()), start)
    question = Question(
        id=str(row.id),
        video=videos.find(row.video_path),
        text=row.question,
        options=options,
        correct=None if row.correct_choice == NOT_TOLD else indexed(row.correct_choice, options, where),
        groups={
            "duration_group": str(row.duration_group),
            "question_category": row.question_category,
            "topic_category": row.topic_category,
            **({} if row.level is None else {"level": row.level}),
        },
        evidence=evidence_of(row.position or ()),
        subtitles=subtitles,
    )
    return Annotated(question, row.duration)


def evidence_of(position: Sequence[int]) -> tuple[Span, ...] | None:
    """One moment per position; None if no position is usable."""
    seconds = [value / POSITION_CLOCK for value in position if value <= LARGEST_POSITION]
    return tuple(Span(second, second) for second in seconds) or None
