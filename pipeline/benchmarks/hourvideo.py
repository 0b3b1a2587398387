"""HourVideo (arXiv 2411.04998): five-way questions about first-person videos of 20 to 120 minutes (Ego4D).

Reads the JSON files of the release, ``{video_uid: {video_metadata, benchmark_dataset: [...]}}``; only dev and samples
carry answers. Options are ``answer_1`` .. ``answer_5``, the right one a letter. In three tasks the options are
pictures: paths relative to the release folder, which holds ``json``. Prediction questions are asked over the video up
to the event (``span``), where the project also cuts its videos, and the event is not evidence that could be shown.

The files are gated, and the form of ``relevant_timestamps`` is published nowhere else. Supported are ``H:MM:SS`` (as in
the project's own code), seconds, and spans of two of them (``a-b``, ``[a, b]`` inside a list, or an object with
``start`` and ``end``), alone or in a list; a plain list of times is that many moments. Anything else is a fault of the
row, which is not counted as a question without evidence.

The files contain a canary, a text among the videos that keeps them out of training sets. It is skipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts.entries import Entry, read_json
from pipeline.benchmarks.annotations import OVERRIDE, Annotated, AnnotatedBenchmark, Length, half_hours, of_each
from pipeline.benchmarks.options import lettered
from pipeline.benchmarks.places import VideoFolder, folder
from pipeline.domain import LONGEST, Question, Span, option_letter
from pipeline.errors import InputError
from pipeline.identity import Place
from pipeline.paths import path_text

PICTURES = ("navigation/room_to_room_image", "navigation/object_retrieval_image", "reasoning/spatial/layout")
"""Tasks whose options are pictures."""
PREDICTION = "reasoning/predictive"
"""The task that is asked over the video up to the event."""


@dataclass(frozen=True)
class _Row:
    qid: str
    task: str
    question: str
    answer_1: str
    answer_2: str
    answer_3: str
    answer_4: str
    answer_5: str
    correct_answer_label: str | None = None
    relevant_timestamps: Any = None

    @property
    def answers(self) -> tuple[str, ...]:
        """Texts, or paths of pictures."""
        return (self.answer_1, self.answer_2, self.answer_3, self.answer_4, self.answer_5)


@dataclass(frozen=True)
class _Metadata:
    duration_in_seconds: Length


@dataclass(frozen=True)
class _Video:
    video_metadata: _Metadata
    benchmark_dataset: list[Any]


@dataclass(frozen=True)
class HourVideo(AnnotatedBenchmark):
    """The questions of one annotation file; videos are ``UID.mp4``."""

    image_root: Place[str | None]
    """Folder that the pictures' paths start from; None: the folder above that of the file, as in the release."""
    leave_out: tuple[str, ...]
    """Tasks, by the start of their names, whose questions are not asked."""

    def leaves_out(self, question: Question) -> bool:
        """Whether its task is left out."""
        return question.groups.get("task", "").startswith(self.leave_out)

    def read(self, file: Path) -> Iterator[Annotated]:
        """Every question, video by video."""
        found = read_json(file, OVERRIDE)
        if not isinstance(found, dict):
            raise InputError(f"{file} is not an object of videos", "name one of HourVideo's files: benchmark.path=...")
        usual = ("videos", "../../videos", "../../v2/video_540ss")
        videos = VideoFolder(folder(self.video_root, file.parent, *usual))
        pictures = folder(self.image_root, file.parent, "..")

        def of_video(entry: Entry) -> Iterator[Annotated]:
            if isinstance(entry.value, dict) and "benchmark_dataset" not in entry.value:
                raise InputError(f"{entry.where} has no benchmark_dataset", "name one of HourVideo's question files")
            video = entry.as_kind(_Video)
            path, seconds = videos.find(f"{entry.name}.mp4"), video.video_metadata.duration_in_seconds

            def of_row(row: Entry) -> list[Annotated]:
                return [Annotated(_question(row.as_kind(_Row), path, seconds, pictures, row.where), seconds)]

            rows = enumerate(video.benchmark_dataset, start=1)
            return of_each((_entry(file, entry.name, number, row) for number, row in rows), of_row)

        # The canary is a text.
        entries = (Entry(f"{file}: {uid!r}", uid, each) for uid, each in found.items() if not isinstance(each, str))
        return of_each(entries, of_video)


def _entry(file: Path, uid: str, number: int, row: Any) -> Entry:
    qid = row.get("qid") if isinstance(row, dict) else None
    where = f"{file}: {qid!r}" if isinstance(qid, str) else f"{file}: {uid!r}, question {number}"
    return Entry(where, f"{uid}, question {number}", row)


def _question(row: _Row, video: str, seconds: float, pictures: Path, where: str) -> Question:
    evidence = evidence_of(row.relevant_timestamps, where)
    predicts = row.task.startswith(PREDICTION)
    options, images = row.answers, None
    if row.task in PICTURES:
        images = tuple(path_text((pictures / answer).absolute()) for answer in row.answers)
        options = tuple(f"image {option_letter(number)}" for number in range(len(images)))
    return Question(
        id=row.qid,
        video=video,
        text=row.question,
        options=options,
        correct=lettered(row.correct_answer_label, options, where),
        groups={"duration_group": half_hours(seconds), "family": row.task.split("/")[0], "task": row.task},
        evidence=None if predicts else evidence,
        option_images=images,
        span=_before(evidence, where) if predicts else None,
    )


def _before(event: tuple[Span, ...] | None, where: str) -> Span:
    """The video up to the event, without the event's first second."""
    if event is None:
        raise InputError(
            f"{where}: relevant_timestamps: no time of the event before which the video is to end",
            f"correct the row, or leave the task out: benchmark.leave_out=[{PREDICTION}]",
        )
    return Span(0.0, max(0.0, math.nextafter(min(span.start for span in event), 0.0)))


def evidence_of(timestamps: Any, where: str) -> tuple[Span, ...] | None:
    """The spans and moments of ``relevant_timestamps``; None if there are none.

    Raises:
        InputError: its form is not one of those above.
    """
    if timestamps is None or timestamps in ("", []):
        return None
    parts = timestamps if isinstance(timestamps, list) else [timestamps]
    spans = [_span(part) for part in parts]
    if not all(span is not None and 0 <= span.start <= span.end < math.inf for span in spans):
        raise InputError(
            f"{where}: relevant_timestamps={timestamps!r} cannot be read",
            'write it as ["H:MM:SS-H:MM:SS", ...] or as [[start, end], ...] in seconds, or take it out of the row',
        )
    return tuple(span for span in spans if span is not None)


def _span(part: Any) -> Span | None:
    if isinstance(part, Mapping):
        part = [part.get("start"), part.get("end")]
    elif isinstance(part, str):
        part = re.split(r"[-–]", part)  # noqa: RUF001
    elif not isinstance(part, list):
        part = [part]
    ends = [_seconds(end) for end in part]
    if not 1 <= len(ends) <= 2 or any(end is None for end in ends):
        return None
    known = [end for end in ends if end is not None]
    return Span(known[0], known[-1])


def _seconds(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) <= LONGEST else math.inf  # a whole number may be too large for a float
    if not isinstance(value, str) or re.fullmatch(r"(?:(?:\d+:)?\d+:)?\d+(?:\.\d+)?", value.strip()) is None:
        return None
    seconds = 0.0
    for part in value.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
