"""LV-Haystack (arXiv 2504.02259): which frames of a long first-person video (Ego4D) answer a question.

Reads the hub's parquet files of ``LVHaystack/LongVideoHaystack``, since renamed ``MLL-Lab/LongVideoHaystack`` (splits
train, val, test and test_tiny), or the same rows as JSON. The gold frames, ``frame_indexes_video``, are native frame
numbers of the whole video: seconds are number / ``frame_rate`` of the row's metadata. They are the evidence, for
``gens recall`` with its temporal precision, recall and F1.

Options are an object of letters. Rows have no id of their own: a question is ``VCLIP_0``, ``VCLIP_1`` ..., counted from
0 for each clip in the order of the file. A question is asked over the whole video here; ``vclip_interval_in_video``,
the part that its clip was cut from, has no documented unit and is not used.

The benchmark's visual scores are left out: as released, they decode frame N for second N and take a picture's height
for its channels. Not read is the part of LV-Haystack that is made from LongVideoBench: it divides ``position`` by the
video's native rate, and ``position`` is a clock of 24 a second (:mod:`pipeline.benchmarks.longvideobench`), so that its
gold seconds are wrong in videos of other rates. For these questions use ``benchmark=longvideobench``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated as Described

from pydantic import Field

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, Length, half_hours, of_each
from pipeline.benchmarks.options import lettered
from pipeline.benchmarks.places import VideoFolder, folder
from pipeline.domain import FASTEST, LONGEST, OPTION_LETTERS, Question, Span
from pipeline.errors import InputError

Rate = Described[float, Field(gt=0, le=FASTEST, allow_inf_nan=False)]
Index = Described[int, Field(ge=0, le=LONGEST)]


@dataclass(frozen=True)
class _Metadata:
    frame_rate: Rate
    video_duration: Length | None = None


@dataclass(frozen=True)
class _Row:
    video_id: str
    vclip_id: str | int
    question: str
    frame_indexes_video: list[Index]
    video_metadata: _Metadata
    options: dict[str, str | None] | None = None
    answer: str | None = None


@dataclass(frozen=True)
class LVHaystack(AnnotatedBenchmark):
    """The questions of one split; videos are ``VIDEO.mp4`` in ``videos`` next to the file or one folder above."""

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row."""
        videos = VideoFolder(folder(self.video_root, file.parent, "videos", "../videos"))
        seen: Counter[str] = Counter()

        def made(entry: Entry) -> list[Annotated]:
            row = entry.as_kind(_Row)
            clip, meta = str(row.vclip_id), row.video_metadata
            number = seen[clip]
            seen[clip] += 1
            options = _options(row.options, entry.where)
            moments = sorted({index / meta.frame_rate for index in row.frame_indexes_video})
            question = Question(
                id=f"{clip}_{number}",
                video=videos.find(f"{row.video_id}.mp4"),
                text=row.question.strip(),
                options=options,
                correct=None if options is None else lettered(row.answer or None, options, entry.where),
                groups={} if meta.video_duration is None else {"duration_group": half_hours(meta.video_duration)},
                evidence=tuple(Span(moment, moment) for moment in moments) or None,
            )
            return [Annotated(question, meta.video_duration)]

        return of_each(read_entries(file, OVERRIDE), made)


def _options(given: dict[str, str | None] | None, where: str) -> tuple[str, ...] | None:
    """In the order of their letters; parquet pads the letters that a row does not have with nothing."""
    found = {letter: text for letter, text in sorted((given or {}).items()) if text}
    if "".join(found) != OPTION_LETTERS[: len(found)] or len(found) == 1:
        raise InputError(
            f"{where}: options: {', '.join(found)} are not the letters A, B ...",
            "correct the row, or fetch the annotations again",
        )
    return tuple(found.values()) or None
