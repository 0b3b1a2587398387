"""ExtremeWhenBench (arXiv 2606.12300): when something happens in a video of more than an hour; 2273 questions.

Reads the rows of the hub's ``min1321/extreme-when-bench``, JSON or parquet; a JSON object with the rows under
``questions`` is read too, as by the authors' script. The 194 videos are those of LVBench, MLVU and Video-MME, and are
fetched from there. ``correct_interval`` is in seconds, and is the evidence: ``gens recall`` needs no answerer. An
answer is an interval, compared by intersection over union.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, Length, half_hours, of_each
from pipeline.benchmarks.places import VideoFolder, folder
from pipeline.benchmarks.timespans import spans_of
from pipeline.domain import AnswerForm, Question


@dataclass(frozen=True)
class _Row:
    qid: str | int
    video_id: str
    question: str
    correct_interval: list[float]
    video_duration_s: Length
    source_corpus: str
    category: str | None = None


@dataclass(frozen=True)
class ExtremeWhen(AnnotatedBenchmark):
    """The questions of one annotation file; videos are ``VIDEO.mp4`` in ``videos`` next to it."""

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row."""
        videos = VideoFolder(folder(self.video_root, file.parent, "videos", "../videos"))

        def made(entry: Entry) -> list[Annotated]:
            row = entry.as_kind(_Row)
            labels = {
                "duration_group": half_hours(row.video_duration_s),
                "source_corpus": row.source_corpus,
                "category": row.category,
            }
            question = Question(
                id=str(row.qid),
                video=videos.search(f"{row.video_id}.mp4"),
                text=row.question.strip(),
                groups={name: value for name, value in labels.items() if value is not None},
                evidence=spans_of([row.correct_interval], "correct_interval", entry.where),
                answer_form=AnswerForm.INTERVALS,
            )
            return [Annotated(question, row.video_duration_s)]

        return of_each(_entries(file), made)


def _entries(file: Path) -> list[Entry]:
    entries = read_entries(file, OVERRIDE)
    if (
        len(entries) == 1
        and isinstance(entries[0].read, Mapping)
        and isinstance(entries[0].read.get("questions"), list)
    ):
        rows = enumerate(entries[0].read["questions"], start=1)
        return [Entry(f"{file}: question {number}", f"question {number}", row) for number, row in rows]
    return entries
