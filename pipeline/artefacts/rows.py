"""The rows of a run folder's files: what is asked, and what one stage hands to the next.

One JSON object a line, one line a question. ``schema`` names the form and its version; a reader refuses a version that
it does not know. A row is complete in itself: ``selections.jsonl`` alone is enough to answer from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.domain import Answer, Question, Relevance, Selection, Video
from pipeline.errors import InputError


@dataclass(frozen=True)
class QuestionRow:
    """One question that a run was given."""

    question: Question
    schema: Literal["gens/question/1"] = "gens/question/1"


@dataclass(frozen=True)
class RelevanceRow:
    """What the sampler said of one question."""

    key: str
    """Digest of all that decided the scores: video content, query, sampler identity."""
    sampler: str
    question: Question
    video: Video | None
    """None where the video could not be read, so that nothing is known of it."""
    relevance: Relevance
    schema: Literal["gens/relevance/1"] = "gens/relevance/1"


@dataclass(frozen=True)
class SelectionRow:
    """The contract between the stages: the frames of one question."""

    key: str
    """Digest of the relevance key and the policy's identity."""
    sampler: str
    question: Question
    video: Video | None
    selection: Selection
    schema: Literal["gens/selection/1"] = "gens/selection/1"


@dataclass(frozen=True)
class AnswerRow:
    """What the answerer said of one question."""

    key: str
    """Digest of the question, the selected times and the answerer's identity."""
    sampler: str
    answerer: str
    question: Question
    answer: Answer
    schema: Literal["gens/answer/1"] = "gens/answer/1"

    @property
    def correct(self) -> bool | None:
        """Whether the option read is the right one; none where the question has no known answer."""
        if self.question.correct is None:
            return None
        return self.answer.option == self.question.correct


Row = TypeVar("Row", QuestionRow, RelevanceRow, SelectionRow, AnswerRow)
KeyedRow = TypeVar("KeyedRow", RelevanceRow, SelectionRow, AnswerRow)


_ADAPTERS: dict[type, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (QuestionRow, RelevanceRow, SelectionRow, AnswerRow)
}


def to_line(row: QuestionRow | RelevanceRow | SelectionRow | AnswerRow) -> bytes:
    """The row as one line of JSON, its newline included."""
    return _ADAPTERS[type(row)].dump_json(row) + b"\n"


def from_line(kind: type[Row], line: bytes | str, where: str) -> Row:
    """Read one line. ``where`` names file and line for the error.

    Raises:
        InputError: the line is not a row of this kind and version.
    """
    try:
        row: Row = _ADAPTERS[kind].validate_json(line)
        return row
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the row"
        raise InputError(
            f"{where}: {place}: {first['msg']}",
            f"the file must hold rows of the form {kind.schema}; the README says what they are",
        ) from error
