"""Other people's selections as a sampler: their frames, joined by question id, run with any policy and answerer here.

Joined by position or by video, published selections have been scored with the frames of other questions, and nobody was
told. So every row must find its question and every question its row, the text must be the same where the file has it,
and no moment may lie behind the end of its video; anything else ends the command before a model is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
"""Score of the frames of a file that has none: they are all named, and equal."""


@dataclass(frozen=True)
class FileSampler(Identified):
    """Says what a file says. Decodes nothing, loads nothing."""

    kind: ClassVar[str] = "file"

    name: Label[str]
    path: RowFile[str]
    format: InstanceOf[SelectionFormat]
    surplus: Literal["refuse", "ignore"]
    """What is done about rows whose question is not asked, as in a run over a part of the benchmark."""
    missing: Literal["refuse", "record"]
    """What is done about questions without a row: the command ends, or the question's status says so."""

    @property
    def without_pictures(self) -> Literal[True]:
        """No frame is touched."""
        return True

    def query(self, question: Question) -> str:
        """The question's id and its row, so that a mended file is not answered from the cache."""
        row = self._row(question)
        return f"{question.id}: {row.moments!r} {row.scores!r}" if row else f"{question.id}: no row"

    def check(self, questions: Sequence[Question]) -> None:
        """Every row against every question, as far as no video is needed.

        Raises:
            InputError: the file cannot be read, an id stands twice, is not asked or has no row, or a text differs.
        """
        asked = [question.id for question in questions]
        unknown = [row for question_id, row in self._rows.items() if question_id not in set(asked)]
        if unknown and self.surplus == "refuse":
            first = unknown[0]
            raise InputError(
                f"{first.where}: {first.question_id!r} is not the id of a question of this run"
                f"{_and_others(len(unknown))}.{nearest(first.question_id, asked)}",
                "name the benchmark that the file was made for; for a run over a part of it: sampler.surplus=ignore",
            )
        without = [question.id for question in questions if self._row(question) is None]
        if without and self.missing == "refuse":
            raise self._absent(without[0], len(without))

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question, with the file's moments as its only candidates; ``frames`` is not touched.

        Raises:
            InputError: a moment lies behind the end of ``video``, or is no moment of it at all.
        """
        return [self._relevance(question, video) for question in questions]

    def close(self) -> None:
        """Nothing to free."""

    @cached_property
    def _rows(self) -> dict[str, ForeignRow]:
        rows: dict[str, ForeignRow] = {}
        for row in self.format.rows(local_path(self.path)):
            if row.question_id in rows:
                raise InputError(
                    f"{row.where}: the id {row.question_id!r} stands at {rows[row.question_id].where} already",
                    "which of the rows is meant cannot be told: take one out",
                )
            rows[row.question_id] = row
        return rows

    def _row(self, question: Question) -> ForeignRow | None:
        row = self._rows.get(question.id)
        if row is not None and row.text is not None and not _alike(row.text, question.text):
            raise InputError(
                f"{row.where}: the row asks {_short(row.text)!r}, the question {question.id!r} of this run is "
                f"{_short(question.text)!r}",
                "name the benchmark that the file was made for; if it is the same question, take the text out of the "
                "row",
            )
        return row

    def _relevance(self, question: Question, video: Video) -> Relevance:
        row = self._row(question)
        if row is None:
            if self.missing == "refuse":
                raise self._absent(question.id, 1)
            return Relevance(
                question.id, (), (), status=Status.NO_SCORES, detail=f"{self.path} has no row for this question"
            )
        moments = self._moments(row, video)
        if not moments:
            return Relevance(
                question.id, (), (), status=Status.NOTHING_RELEVANT, detail=f"{row.where}: the row has no frames"
            )
        times = tuple(sorted(moments))
        return Relevance(question.id, times, tuple(moments[time] for time in times), named_above=None)

    def _moments(self, row: ForeignRow, video: Video) -> dict[float, float]:
        """Score by second; the better one where a second stands twice."""
        try:
            seconds = row.moments.seconds(video)
        except InputError as error:
            raise InputError(f"{row.where}: {error.problem}", error.remedy) from error
        scores = row.scores if row.scores is not None else (UNSCORED,) * len(seconds)
        moments: dict[float, float] = {}
        last = native_time(video.frame_count - 1, video)
        for second, score in zip(seconds, scores, strict=True):
            # Two readers may disagree by a frame about how long a video is.
            if not video.start <= second < video.duration + 1 / video.fps:
                raise InputError(
                    f"{row.where}: second {second:.3f} is not in {video.path}, which lasts {video.duration:.3f} s",
                    "use the videos that the file was made from, and check how it counts: sampler.format",
                )
            if not math.isfinite(score):
                raise InputError(f"{row.where}: {score} is not a score", "mend the row, or leave its scores out")
            held = second if second < video.duration else last
            moments[held] = max(score, moments.get(held, score))
        return moments

    def _absent(self, question_id: str, count: int) -> InputError:
        return InputError(
            f"{self.path} has no row for the question {question_id!r}{_and_others(count)}."
            f"{nearest(question_id, self._rows)}",
            "name the benchmark that the file was made for; to record such questions as failed: sampler.missing=record",
        )


def _and_others(count: int) -> str:
    return f", and {count - 1} more" if count > 1 else ""


def _alike(one: str, other: str) -> bool:
    """Whether one text holds the other: files put options and prompts around a question, or leave them out."""
    bare, whole = sorted((" ".join(text.split()).casefold() for text in (one, other)), key=len)
    return bool(bare) and bare in whole


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
