"""LVBench (arXiv 2406.08035): 1549 questions about 103 videos of half an hour to more than two hours.

Reads ``video_info.meta.jsonl``, one video a line with its ``qa`` rows. Ids are texts, except four that are numbers. The
four options stand in the question's text, each on a line of its own: ``(A) ...``. ``time_reference`` is
``MM:SS-MM:SS``, with three-digit minutes in long videos; it may hold ``None``, and in some rows the end precedes the
start. Of such rows nobody can tell where the evidence is, so they have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.artefacts.entries import checked, read_entries
from pipeline.benchmarks.annotations import Annotated, durations, half_hours, unique, video_file
from pipeline.domain import OPTION_LETTERS, Question, Span
from pipeline.errors import InputError


@dataclass(frozen=True)
class _Qa:
    uid: str | int
    question: str
    question_type: list[str]
    answer: str | None = None
    time_reference: str | None = None


@dataclass(frozen=True)
class _Info:
    duration_minutes: float


@dataclass(frozen=True)
class _Video:
    key: str
    type: str
    qa: list[_Qa]
    video_info: _Info


@dataclass(frozen=True)
class LVBench:
    """The questions of ``video_info.meta.jsonl``."""

    name: str
    path: str
    video_root: str | None
    """Folder of the videos, ``KEY.mp4``; none: ``videos`` beside the file."""

    def questions(self) -> Sequence[Question]:
        """All questions, video by video.

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
        for where, value in read_entries(file, "benchmark.path"):
            video = checked(_Video, value, where)
            seconds = video.video_info.duration_minutes * 60
            for row in video.qa:
                text, options = parted(row.question, f"{where}: {row.uid!r}")
                question = Question(
                    id=str(row.uid),
                    video=video_file(self.video_root, file, f"{video.key}.mp4"),
                    text=text,
                    options=options,
                    correct=_index(row.answer, options, f"{where}: {row.uid!r}"),
                    groups={
                        "duration_group": half_hours(seconds),
                        "type": video.type,
                        "question_type": " + ".join(row.question_type),
                    },
                    evidence=evidence_of(row.time_reference),
                )
                yield Annotated(question, seconds)


def parted(question: str, where: str) -> tuple[str, tuple[str, ...]]:
    """The text, and the options that stand below it.

    Raises:
        InputError: there are no options ``(A)``, ``(B)`` ... in this order.
    """
    text, *rest = re.split(r"\n\s*\(([A-Z])\)\s*", question)
    letters, options = rest[::2], rest[1::2]
    if len(options) < 2 or "".join(letters) != OPTION_LETTERS[: len(letters)]:
        raise InputError(f"{where}: no options (A), (B) ... below the question", "fetch the annotations again")
    return text.strip(), tuple(option.strip() for option in options)


def evidence_of(reference: str | None) -> tuple[Span, ...] | None:
    """``08:17-110:02`` in seconds; none for what is no stretch of time."""
    found = re.fullmatch(r"(\d+):(\d\d)-(\d+):(\d\d)", (reference or "").strip())
    if found is None:
        return None
    start_minute, start_second, end_minute, end_second = (float(part) for part in found.groups())
    span = Span(60 * start_minute + start_second, 60 * end_minute + end_second)
    return (span,) if span.start <= span.end else None


def _index(answer: str | None, options: Sequence[str], where: str) -> int | None:
    if answer is None:
        return None
    letters = OPTION_LETTERS[: len(options)]
    if len(answer) != 1 or answer not in letters:
        raise InputError(f"{where}: the answer {answer!r} is none of {letters}", "fetch the annotations again")
    return letters.index(answer)
