"""The rows of a run folder's files: the questions, and the results that one stage passes to the next.

One JSON object per line, one line per question. ``schema`` names the form and its version; a reader refuses a version
that it does not know. ``selections.jsonl`` is complete in itself: an answerer needs nothing else. ``relevance.jsonl``
and ``answers.jsonl`` name their question by its id; the question stands in ``questions.jsonl`` beside them, so that a
corrected label counts at once. Rows of version 1, which repeat the question, can still be read.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.domain import Answer, AnswerForm, Grade, Prompt, Question, Relevance, Selection, Status, Video
from pipeline.errors import InputError, with_remedy
from pipeline.identity import digest
from pipeline.validation import question_fault, selection_fault
from pipeline.wellformed import dumped, loaded, loaded_object, well_formed_json


@dataclass(frozen=True)
class QuestionRow:
    """One question of a run."""

    question: Question
    schema: Literal["gens/question/1"] = "gens/question/1"


@dataclass(frozen=True)
class _Keyed:
    """What every result has."""

    key: str
    """Digest of all that decided the result."""
    sampler: str


@dataclass(frozen=True)
class RelevanceRow(_Keyed):
    """The sampler's scores for one question. Its key covers the video's content, the query and the sampler."""

    question: Question
    video: Video | None
    """None where the video could not be read."""
    relevance: Relevance
    schema: Literal["gens/relevance/1", "gens/relevance/2"] = "gens/relevance/2"


@dataclass(frozen=True)
class SelectionRow(_Keyed):
    """The contract between the stages: the frames of one question. Its key covers the relevance and the policy."""

    question: Question
    video: Video | None
    selection: Selection
    schema: Literal["gens/selection/1", "gens/selection/2"] = "gens/selection/2"


@dataclass(frozen=True)
class AnswerRow(_Keyed):
    """The answer to one question. Its key covers the frames, the question and the answerer."""

    answerer: str
    question: Question
    answer: Answer
    schema: Literal["gens/answer/1", "gens/answer/2"] = "gens/answer/2"

    @property
    def correct(self) -> bool | None:
        """Whether the option read is the right one; None where the question has no known answer."""
        if self.question.correct is None:
            return None
        return self.answer.option == self.question.correct


@dataclass(frozen=True)
class GradeRow:
    """A judge's grade of one answer. Its key covers question, reference, answer and judge, and no sampler."""

    key: str
    question: Question
    of: str
    """Digest of the answer and of what it is graded against: the grade of another answer does not count."""
    grade: Grade
    schema: Literal["gens/grade/2"] = "gens/grade/2"
    """Without a version 1: rows of that version repeat their question."""


Row = TypeVar("Row", QuestionRow, RelevanceRow, SelectionRow, AnswerRow, GradeRow)
KeyedRow = TypeVar("KeyedRow", RelevanceRow, SelectionRow, AnswerRow, GradeRow)
AnyRow = QuestionRow | RelevanceRow | SelectionRow | AnswerRow | GradeRow


@dataclass(frozen=True)
class _RelevanceLine(_Keyed):
    """The written form of a relevance row, with a digest in place of the question."""

    asked: str
    video: Video | None
    relevance: Relevance
    schema: Literal["gens/relevance/2"] = "gens/relevance/2"


@dataclass(frozen=True)
class _AnswerLine(_Keyed):
    """The written form of an answer row, with a digest in place of the question."""

    answerer: str
    asked: str
    answer: Answer
    schema: Literal["gens/answer/2"] = "gens/answer/2"


@dataclass(frozen=True)
class _GradeLine:
    """The written form of a grade row, with a digest in place of the question."""

    key: str
    asked: str
    of: str
    grade: Grade
    schema: Literal["gens/grade/2"] = "gens/grade/2"


_KINDS = (Question, QuestionRow, RelevanceRow, SelectionRow, AnswerRow, GradeRow)
_ADAPTERS: dict[type, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (*_KINDS, _RelevanceLine, _AnswerLine, _GradeLine)
}
_FORM = re.compile(r"gens/\w+/\d+", re.ASCII)
_SELECTIONS = ("gens/selection/1", "gens/selection/2")
_SCHEMA = b'"schema"'
_VERSION_1 = re.compile(rb'"schema"\s*:\s*"gens/\w+/1"')
_HALVES = (b"\\ud", b"\\uD")
_NUMBERS = tuple(f'"{name}":['.encode() for name in ("times", "scores", "indices", "rounds"))
_LINES: dict[type, type] = {RelevanceRow: _RelevanceLine, AnswerRow: _AnswerLine, GradeRow: _GradeLine}
"""The written form of rows that are written without their question."""


def question_key(question: Question) -> str:
    """Digest of what is asked: text, options, prompt as sent, and what it is answered with.

    Labels, references, groups and evidence are not part of it.
    """
    return _question_key(question.text, question.options, question.prompt, question.answer_form)


@lru_cache(maxsize=1 << 15)
def _question_key(text: str, options: tuple[str, ...] | None, prompt: Prompt | None, answer_form: AnswerForm) -> str:
    content: dict[str, Any] = {"text": text, "options": options}
    if prompt is not None:
        content["prompt"] = (prompt.text, prompt.system)
    if answer_form is not AnswerForm.WORDS:
        content["answer_form"] = answer_form.value
    return digest(content)[:16]


def is_same_question(one: Question, other: Question) -> bool:
    """Whether two questions have the same id and ask the same. Labels may differ."""
    return one.id == other.id and question_key(one) == question_key(other)


def to_line(row: AnyRow) -> bytes:
    """The row as one line of JSON, including the newline."""
    match row:
        case RelevanceRow():
            asked = question_key(row.question)
            written: Any = _RelevanceLine(row.key, row.sampler, asked, row.video, row.relevance)
        case AnswerRow():
            written = _AnswerLine(row.key, row.sampler, row.answerer, question_key(row.question), row.answer)
        case GradeRow():
            written = _GradeLine(row.key, question_key(row.question), row.of, row.grade)
        case _:
            written = row
    return dumped(_ADAPTERS[type(written)], written) + b"\n"


def from_line(kind: type[Row], line: bytes | str, where: str, asked: Mapping[str, Question]) -> Row | None:
    """Read one line.

    Args:
        kind: what the line must be.
        line: with or without its newline.
        where: file and line, for the error.
        asked: the current questions by id. Rows of all versions take their labels, groups and evidence
            from there.

    Returns:
        None for a row whose question is unknown, or differs from the one of its id in ``asked``.

    Raises:
        InputError: the line is not a row of this kind and of a known version.
    """
    written = _LINES.get(kind)
    line = _without_halves(line)
    try:
        if written is None or _is_version_1(line):
            row = _ADAPTERS[kind].validate_json(line)
        else:
            return cast("Row | None", _joined(_ADAPTERS[written].validate_json(line), asked))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the row"
        raise InputError(
            f"{where}: {place}: {first['msg']}",
            f"the file must hold rows of the form {kind.schema}; pipeline/artefacts/README.md describes them",
        ) from error
    current = row if kind is QuestionRow else _relabelled(row, asked)
    return None if current is None else cast("Row", _usable(current, where))


def without_numbers(line: bytes) -> bytes:
    """A line of ``relevance.jsonl`` without its times, scores, indices and rounds, which are nearly all of it.

    It is read fifteen times as fast. A line that was written in another form keeps them.
    """
    for name in _NUMBERS:
        start = line.find(name) + len(name)
        end = line.find(b"]", start)
        if start >= len(name) and end >= 0 and line.find(b'"', start, end) < 0:
            line = line[:start] + line[end:]
    return line


def _usable(row: Any, where: str) -> Any:
    """The row, or a failure in place of one that contradicts itself, since any program may have written it."""
    fault = question_fault(row.question)
    if fault is not None:
        detail = with_remedy(f"{where}: {fault}", "correct the row")
        nothing = {"correct": None, "option_images": None, "evidence": None, "span": None, "subtitles": None}
        row = replace(row, question=replace(row.question, **nothing, fault=detail))
    if not isinstance(row, SelectionRow):
        return row
    if row.question.fault and (row.selection.frames or row.video is not None):
        return _without_frames(row, Status.INVALID_QUESTION, row.question.fault)
    fault = None if row.video is None else selection_fault(row.video, row.selection, row.question)
    if fault is None:
        return row
    detail = with_remedy(f"{where}: {fault}", "correct the row, or select again with gens sample")
    return _without_frames(row, Status.INVALID_OUTPUT, detail)


def unreadable_selection(line: bytes, where: str, error: InputError) -> SelectionRow:
    """The failure for a line that is not a selection row, with its question as far as it can be read.

    Args:
        line: the line as in the file.
        where: file and line, whose name is the question's id if none can be read.
        error: why :func:`from_line` refuses the line.

    Raises:
        InputError: the line is a row of another kind or of an unknown version, and so is its file.
    """
    row = _object(line)
    schema = row.get("schema")
    if isinstance(schema, str) and _FORM.fullmatch(schema) and schema not in _SELECTIONS:
        raise error
    asked = row.get("question")
    try:
        question = _ADAPTERS[Question].validate_python(asked)
    except ValidationError:
        known = asked.get("id") if isinstance(asked, dict) else None
        question = Question(known if isinstance(known, str) else Path(where).name, "", "", fault=str(error))
    status = Status.INVALID_QUESTION if question.fault else Status.INVALID_OUTPUT
    selection = Selection(question.id, (), policy="", budget=0, status=status, detail=str(error))
    return cast("SelectionRow", _usable(SelectionRow("", "", question, None, selection), where))


def _object(line: bytes) -> dict[str, Any]:
    """The line's JSON object; empty if it is not one."""
    try:
        return loaded_object(_without_halves(line))
    except ValueError:
        return {}


def _without_frames(row: SelectionRow, status: Status, detail: str) -> SelectionRow:
    selection = Selection(row.question.id, (), row.selection.policy, row.selection.budget, status, detail)
    return replace(row, video=None, selection=selection)


def _without_halves(line: bytes | str) -> bytes | str:
    """The line without a byte order mark and with U+FFFD for halves of surrogate pairs.

    Other programs write them, and pydantic refuses them.
    """
    content = line.removeprefix(codecs.BOM_UTF8) if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
    if _HALVES[0] not in content and _HALVES[1] not in content:
        return content if isinstance(line, bytes) else line
    try:
        text = content.decode(errors="replace") if isinstance(line, bytes) else line
        return json.dumps(well_formed_json(loaded(text)), ensure_ascii=False)
    except (ValueError, RecursionError):
        return line  # the validation reports it


def _is_version_1(line: bytes | str) -> bool:
    """Whether the row is of version 1. Quotes inside a string are escaped, so only the field itself matches."""
    text = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
    # A search for the name alone is several times as fast in a line of 60 KB as one for the expression.
    at = text.find(_SCHEMA)
    while at >= 0:
        if _VERSION_1.match(text, at):
            return True
        at = text.find(_SCHEMA, at + 1)
    return False


def _joined(line: Any, asked: Mapping[str, Question]) -> RelevanceRow | AnswerRow | GradeRow | None:
    if isinstance(line, _AnswerLine):
        said: Any = line.answer
    else:
        said = line.relevance if isinstance(line, _RelevanceLine) else line.grade
    question = asked.get(said.question_id)
    if question is None or question_key(question) != line.asked:
        return None
    if isinstance(line, _AnswerLine):
        return AnswerRow(line.key, line.sampler, line.answerer, question, line.answer)
    if isinstance(line, _RelevanceLine):
        return RelevanceRow(line.key, line.sampler, question, line.video, line.relevance)
    return GradeRow(line.key, question, line.of, line.grade)


def _relabelled(row: Any, asked: Mapping[str, Question]) -> Any:
    """The row with its current question, or unchanged where no questions are known."""
    if not asked:
        return row
    question = asked.get(row.question.id)
    if question is None or not is_same_question(question, row.question):
        return None
    return replace(row, question=question)
