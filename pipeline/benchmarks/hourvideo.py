"""HourVideo (arXiv 2411.04998): five-way questions about first-person videos of 20 to 120 minutes (Ego4D).

Reads the JSON files of the release, ``{video_uid: {video_metadata, benchmark_dataset: [...]}}``; only dev and samples
carry answers. Options are ``answer_1`` .. ``answer_5``, the right one a letter.

The files are gated, and the form of ``relevant_timestamps`` is published nowhere else. Read are ``H:MM:SS`` (as in the
project's own code), seconds, stretches of two of them (``a-b``, ``[a, b]`` inside a list, ``{"start": a, "end": b}``),
alone or in a list; a plain list of times is that many moments. Anything else ends the command with the row's name
rather than counting a question without its evidence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.artefacts.entries import checked, read_json
from pipeline.benchmarks.annotations import Annotated, durations, half_hours, unique, video_file
from pipeline.domain import OPTION_LETTERS, Question, Span
from pipeline.errors import InputError

OPTIONS = 5


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
    def options(self) -> tuple[str, ...]:
        return (self.answer_1, self.answer_2, self.answer_3, self.answer_4, self.answer_5)


@dataclass(frozen=True)
class _Metadata:
    duration_in_seconds: float


@dataclass(frozen=True)
class _Video:
    video_metadata: _Metadata
    benchmark_dataset: list[_Row]


@dataclass(frozen=True)
class HourVideo:
    """The questions of one annotation file."""

    name: str
    path: str
    """``dev_v1.0_annotations.json``, for instance."""
    video_root: str | None
    """Folder of the videos, ``UID.mp4``; none: ``videos`` beside the file."""
    leave_out: tuple[str, ...]
    """Tasks, by the start of their names, whose questions are not asked."""

    def questions(self) -> Sequence[Question]:
        """All questions of the tasks that are not left out, video by video.

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
        return unique(self._rows(file), file)

    def _rows(self, file: Path) -> Iterator[Annotated]:
        videos = read_json(file, "benchmark.path")
        if not isinstance(videos, dict):
            raise InputError(f"{file} is not an object of videos", "name one of HourVideo's files: benchmark.path=...")
        for uid, value in videos.items():
            if isinstance(value, dict) and "benchmark_dataset" not in value:
                raise InputError(f"{file}: {uid!r} has no benchmark_dataset", "name one of HourVideo's question files")
            video = checked(_Video, value, f"{file}: {uid!r}")
            seconds = video.video_metadata.duration_in_seconds
            path = video_file(self.video_root, file, f"{uid}.mp4")
            for row in video.benchmark_dataset:
                if not row.task.startswith(self.leave_out):
                    yield Annotated(_question(row, path, seconds, f"{file}: {row.qid!r}"), seconds)


def _question(row: _Row, video: str, seconds: float, where: str) -> Question:
    return Question(
        id=row.qid,
        video=video,
        text=row.question,
        options=row.options,
        correct=_index(row.correct_answer_label, where),
        groups={"duration_group": half_hours(seconds), "task": row.task},
        evidence=evidence_of(row.relevant_timestamps, where),
    )


def _index(label: str | None, where: str) -> int | None:
    if label is None:
        return None
    letters = OPTION_LETTERS[:OPTIONS]
    if len(label) != 1 or label not in letters:
        raise InputError(f"{where}: the right answer {label!r} is none of {letters}", "fetch the annotations again")
    return letters.index(label)


def evidence_of(timestamps: Any, where: str) -> tuple[Span, ...] | None:
    """The stretches and moments that ``relevant_timestamps`` says; none where it says none.

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
        part = re.split(r"\s*[-–]\s*", part.strip())  # noqa: RUF001
    elif not isinstance(part, list):
        part = [part]
    ends = [_seconds(end) for end in part]
    if not 1 <= len(ends) <= 2 or any(end is None for end in ends):
        return None
    known = [end for end in ends if end is not None]
    return Span(known[0], known[-1])


def _seconds(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or re.fullmatch(r"(?:(?:\d+:)?\d+:)?\d+(?:\.\d+)?", value.strip()) is None:
        return None
    seconds = 0.0
    for part in value.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
