"""LVBench (arXiv 2406.08035): 1549 questions about 103 videos of half an hour to more than two hours.

Reads ``video_info.meta.jsonl``, one video a line with its ``qa`` rows. Ids are texts, except four that are numbers. The
four options stand in the question's text, each on a line of its own: ``(A) ...``. ``time_reference`` is
``MM:SS-MM:SS``, with three-digit minutes in long videos; it may hold ``None``, and in some rows the end precedes the
start. The evidence of such rows is not known, so they have none.

A question has one to three types and counts in each of them, as in the authors' table: the label of a type is
``question_type/reasoning``, its value the type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, Length, half_hours, of_each
from pipeline.benchmarks.options import lettered, parted
from pipeline.benchmarks.places import VideoFolder, folder
from pipeline.domain import Question, Span


@dataclass(frozen=True)
class _Qa:
    uid: str | int
    question: str
    question_type: list[str]
    answer: str | None = None
    time_reference: str | None = None


@dataclass(frozen=True)
class _Info:
    duration_minutes: Length


@dataclass(frozen=True)
class _Video:
    key: str
    type: str
    qa: list[Any]
    video_info: _Info


@dataclass(frozen=True)
class LVBench(AnnotatedBenchmark):
    """The questions of ``video_info.meta.jsonl``; videos are ``KEY.mp4`` in ``videos`` next to it."""

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every question, video by video."""
        videos = VideoFolder(folder(self.video_root, file.parent, "videos"))

        def of_video(entry: Entry) -> Iterator[Annotated]:
            video = entry.as_kind(_Video)
            path = videos.find(f"{video.key}.mp4")
            rows = (
                Entry(f"{entry.where}: {_named(row, number)}", f"{video.key}, question {number}", row)
                for number, row in enumerate(video.qa, start=1)
            )
            return of_each(rows, lambda row: [_annotated(row.as_kind(_Qa), video, path, row.where)])

        return of_each(read_entries(file, OVERRIDE), of_video)


def _named(row: Any, number: int) -> str:
    return repr(row["uid"]) if isinstance(row, dict) and "uid" in row else f"question {number}"


def _annotated(row: _Qa, video: _Video, path: str, where: str) -> Annotated:
    text, options = parted(row.question, where)
    seconds = video.video_info.duration_minutes * 60
    question = Question(
        id=str(row.uid),
        video=path,
        text=text,
        options=options,
        correct=lettered(row.answer, options, where),
        groups={
            "duration_group": half_hours(seconds),
            "type": video.type,
            **{f"question_type/{kind}": kind for kind in row.question_type},
        },
        evidence=evidence_of(row.time_reference),
    )
    return Annotated(question, seconds)


def evidence_of(reference: str | None) -> tuple[Span, ...] | None:
    """``08:17-110:02`` in seconds; None if it is not an interval."""
    found = re.fullmatch(r"(\d+):(\d\d)-(\d+):(\d\d)", (reference or "").strip())
    if found is None:
        return None
    start_minute, start_second, end_minute, end_second = (float(part) for part in found.groups())
    span = Span(60 * start_minute + start_second, 60 * end_minute + end_second)
    return (span,) if span.start <= span.end else None
