"""Selections of other projects as a sampler: their frames, joined by question, run with any policy and answerer here.

Joined by position or by video alone, published selections have been scored with the frames of other questions, and
nobody noticed. So a row is joined by the question's id, or by its video and its text together. Every row must find its
question and every question its row, the text must be the same where the file has it, and no time may lie after the
end of its video. Anything else ends the command before a model is loaded, or is recorded as the failure of its
question where ``missing=record`` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import ClassVar, Literal

from pydantic import InstanceOf

from pipeline.config import nearest
from pipeline.domain import FrameSource, Question, Relevance, Status, Video
from pipeline.errors import InputError
from pipeline.foreign import ForeignRow, SelectionFormat
from pipeline.identity import Identified, Label, RowFile
from pipeline.paths import local_path
from pipeline.selection.native import native_time

UNSCORED = 1.0
"""Score of all frames of a file without scores."""
CONTAINERS = (".mp4", ".mkv", ".webm", ".mov", ".avi")
"""Endings of videos, which files may leave out of their names."""
RANK = 1e-9
"""What a frame of a ranked row loses for each of the same score before it: less than any digit that is written."""


@dataclass(frozen=True)
class FileSampler(Identified):
    """The frames and scores of a file. Decodes no video and loads no model."""

    kind: ClassVar[str] = "file"

    name: Label[str]
    path: RowFile[str]
    format: InstanceOf[SelectionFormat]
    surplus: Literal["refuse", "ignore"]
    """What to do about rows whose question is not part of the run, and about damaged rows without an id."""
    missing: Literal["refuse", "record"]
    """What to do about questions without a usable row: end the command, or record a status."""

    @property
    def without_pictures(self) -> Literal[True]:
        """True: no frame is decoded."""
        return True

    def query(self, question: Question) -> str:
        """The question's id and its row, so that a corrected file is not answered from the cache."""
        row = self._row(question)
        if row is None or row.fault is not None:
            return f"{question.id}: {row.fault.problem if row and row.fault else 'no row'}"
        return f"{question.id}: {row.moments!r} {row.scores!r}{' ranked' if row.ranked else ''}"

    def check(self, questions: Sequence[Question]) -> None:
        """Check every row and every question, as far as no video is needed.

        Raises:
            InputError: the file cannot be read; a row is damaged; an id occurs twice with other frames, is not asked
                or has no row; or a text differs.
        """
        rows = {question.id: self._row(question) for question in questions if not question.fault}
        if self.surplus == "refuse":
            self._check_surplus(questions)
        if self.missing == "refuse":
            faults = [row.fault for row in rows.values() if row is not None and row.fault is not None]
            if faults:
                raise _with_alternative(faults[0], "to record such questions as failed: sampler.missing=record")
            without = [question_id for question_id, row in rows.items() if row is None]
            if without:
                raise self._missing_row(without[0], len(without))

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """False: a file holds times and scores."""
        return False

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question, with the file's moments as its only candidates; no picture is decoded.

        Raises:
            InputError: a time lies outside of ``video``.
        """
        return [self._relevance(question, video, frames) for question in questions]

    def close(self) -> None:
        """Nothing to free."""

    @cached_property
    def _file(self) -> _File:
        return _File(self.format.rows(local_path(self.path)))

    def _row(self, question: Question) -> ForeignRow | None:
        row = self._file.row_of(question)
        if row is not None and row.text is not None and not _same_text(row.text, question.text):
            raise InputError(
                f"{row.where}: the row asks {_short(row.text)!r}, the question {question.id!r} of this run is "
                f"{_short(question.text)!r}",
                "name the benchmark that the file was made for; if it is the same question, remove the text from "
                "the row",
            )
        return row

    def _check_surplus(self, questions: Sequence[Question]) -> None:
        over = self._file.unmatched_rows(questions)
        damaged = [row.fault for row in over if row.fault is not None and row.question_id is None]
        if damaged:
            raise _with_alternative(damaged[0], "to ignore such rows: sampler.surplus=ignore")
        if over:
            first, known = over[0], [question.id for question in questions]
            of_video = "" if first.video is None else f" of the video {first.video!r}"
            raise InputError(
                f"{first.where}: {first.question_id!r}{of_video} is not the id of a question of this run"
                f"{_and_others(len(over))}.{nearest(str(first.question_id), known)}",
                "name the benchmark that the file was made for; for a run over a part of it: sampler.surplus=ignore",
            )

    def _relevance(self, question: Question, video: Video, frames: FrameSource) -> Relevance:
        row = self._row(question)
        if row is None:
            if self.missing == "refuse":
                raise self._missing_row(question.id, 1)
            return _without(question, f"{self.path} has no row for this question{self._file.damaged_rows_note()}")
        try:
            moments = self._moments(row, video, frames)
        except InputError as error:
            if self.missing == "refuse":
                raise _with_alternative(error, "to record such questions as failed: sampler.missing=record") from error
            return _without(question, str(error))
        if not moments:
            return Relevance(
                question.id, (), (), status=Status.NOTHING_RELEVANT, detail=f"{row.where}: the row has no frames"
            )
        times = tuple(sorted(moments))
        return Relevance(question.id, times, tuple(moments[time] for time in times), named_above=None)

    def _moments(self, row: ForeignRow, video: Video, frames: FrameSource) -> dict[float, float]:
        """Score by second; the higher one where a second occurs twice."""
        if row.fault is not None:
            raise row.fault
        try:
            seconds = row.moments.seconds(frames)
        except InputError as error:
            raise InputError(f"{row.where}: {error.problem}", error.remedy) from error
        scores = row.scores if row.scores is not None else (UNSCORED,) * len(seconds)
        moments: dict[float, float] = {}
        equals: Counter[float] = Counter()
        last = native_time(video.frame_count - 1, video)
        for second, score in zip(seconds, scores, strict=True):
            # Two readers may disagree by a frame about how long a video is.
            if not video.start <= second < video.duration + 1 / video.fps:
                raise InputError(
                    f"{row.where}: second {second:.3f} is not in {video.path}, of which the question may see "
                    f"{video.start:.3f} s to {video.duration:.3f} s",
                    "use the videos that the file was made from, and check how it counts: sampler.format",
                )
            held = second if second < video.duration else last
            finer = score - RANK * equals[score] if row.ranked else score
            equals[score] += 1
            moments[held] = max(finer, moments.get(held, finer))
        return moments

    def _missing_row(self, question_id: str, count: int) -> InputError:
        return InputError(
            f"{self.path} has no row for the question {question_id!r}{_and_others(count)}."
            f"{nearest(question_id, self._file.ids)}{self._file.damaged_rows_note()}",
            "name the benchmark that the file was made for; to record such questions as failed: sampler.missing=record",
        )


class _File:
    """The rows of a file, found by a question's id, or by its video and text."""

    def __init__(self, rows: Sequence[ForeignRow]) -> None:
        self._rows = rows
        self._by_id: dict[str, list[ForeignRow]] = {}
        self._by_words: dict[tuple[str, str], list[ForeignRow]] = {}
        for row in rows:
            if row.question_id is not None:
                self._by_id.setdefault(row.question_id, []).append(row)
            if row.video is not None and row.text:
                for key in _keys(row.video, row.text):
                    self._by_words.setdefault(key, []).append(row)

    @property
    def ids(self) -> Collection[str]:
        """The ids of all rows that have one."""
        return self._by_id.keys()

    def row_of(self, question: Question) -> ForeignRow | None:
        """The question's row, if there is one.

        Raises:
            InputError: there are several, with other frames.
        """
        found = self._found(question)
        differing = [row for row in found if (row.moments, row.scores) != (found[0].moments, found[0].scores)]
        if differing:
            raise InputError(
                f"{differing[0].where}: the id {differing[0].question_id!r} is at {found[0].where} already, with "
                f"other frames, and both are rows of the question {question.id!r}",
                "remove one of the rows",
            )
        return found[0] if found else None

    def unmatched_rows(self, questions: Sequence[Question]) -> list[ForeignRow]:
        """The rows that belong to no question."""
        used = {row.where for question in questions for row in self._found(question)}
        return [row for row in self._rows if row.where not in used]

    def damaged_rows_note(self) -> str:
        """A note on damaged rows without an id, one of which may be the missing row."""
        faults = [row.fault for row in self._rows if row.fault is not None and row.question_id is None]
        return f"; {len(faults)} rows cannot be read, the first: {faults[0].problem}" if faults else ""

    def _found(self, question: Question) -> list[ForeignRow]:
        by_id = self._by_id.get(question.id, [])
        if by_id:
            return by_id
        keys = _keys(question.video, question.text)
        return next((self._by_words[key] for key in keys if key in self._by_words), [])


def _keys(video: str, text: str) -> list[tuple[str, str]]:
    """The name of the video without its ending, with the whole text and with its first line: files hold either."""
    name = PurePath(local_path(video)).name
    stem = name.removesuffix(next((suffix for suffix in CONTAINERS if name.lower().endswith(suffix)), ""))
    texts = (text, text.strip().split("\n")[0])
    return list(dict.fromkeys((stem, " ".join(each.split()).casefold()) for each in texts))


def _without(question: Question, detail: str) -> Relevance:
    return Relevance(question.id, (), (), status=Status.NO_SCORES, detail=detail)


def _with_alternative(error: InputError, way: str) -> InputError:
    return InputError(error.problem, f"{error.remedy}; {way}")


def _and_others(count: int) -> str:
    return f", and {count - 1} more" if count > 1 else ""


def _same_text(one: str, other: str) -> bool:
    """Whether one text holds the other: files put options and prompts around a question, or leave them out."""
    bare, whole = sorted((" ".join(text.split()).casefold() for text in (one, other)), key=len)
    return bool(bare) and bare in whole


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
