"""The samples files of lmms-eval (``--log_samples``), read and written: JSON Lines, one line per question.

As lmms-eval 0.7 writes them (``loggers/evaluation_tracker.py``)::

    {"doc_id": 0, "target": "1", "filtered_resps": "B", "doc_hash": ..., "prompt_hash": ..., "target_hash": ...,
     "lvb_acc": {"id": "86CxyhFV9MI_0", ..., "answer": "B", "parsed_pred": "B"}, "input": "..."}

``filtered_resps`` is the model's text (a list of one in older versions), ``target`` the right option as the task has
it (index, letter or text), and the result of the task's own code is under the name of its metric. The benchmark's row
itself is not in the file, so the question is found by the id under the metric (``id`` in
LongVideoBench, ``question_id`` in Video-MME). MLVU writes the question's text there, with its options, and LVBench
nothing, so that its prompt (``input``) is used: the question is found by ``doc_id``, its number in the benchmark, if
the text of every such row of the file matches the question of its number, and otherwise by its text, if that is unique.

A model's text is read by our own rule, as every other answer; lmms-eval's own reading is under the metric.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.answerers.options import conclude
from pipeline.artefacts.entries import Entry, checked, read_entries
from pipeline.artefacts.rows import AnswerRow
from pipeline.domain import Answer, Cost, Question, Status, option_letter
from pipeline.errors import InputError
from pipeline.option_labels import without_labels

_ID_FIELDS = ("id", "question_id", "qid", "uid")


@dataclass(frozen=True)
class _Sample:
    doc_id: int
    target: str | int
    filtered_resps: str | list[str]
    input: str = ""


@dataclass(frozen=True)
class _Row:
    where: str
    sample: _Sample
    ids: frozenset[str]
    """All values that may be the question's id."""
    names: frozenset[str]
    """The same values by :func:`_key`, since a question's text may be in the place of an id."""
    prompt: str
    """The prompt by :func:`_key`."""

    @property
    def text(self) -> str:
        """The model's text."""
        said = self.sample.filtered_resps
        return said if isinstance(said, str) else "\n".join(said[:1])


@dataclass(frozen=True)
class Samples:
    """A samples file, joined to questions."""

    rows: tuple[AnswerRow, ...]
    unmatched: tuple[str, ...]
    """Places of the rows that belong to none of the questions, or that cannot be read."""
    unclear: tuple[str, ...]
    """Places of the rows that may belong to several questions with the same text."""


def read_samples(file: Path, questions: Sequence[Question], override: str) -> Samples:
    """Read ``file`` as answers to ``questions``.

    Args:
        file: a ``*_samples_TASK.jsonl``.
        questions: the benchmark's, in its order, or a part of it from its beginning.
        override: the key that names the file, for the error.

    Raises:
        InputError: the file is not a samples file; two rows have the id of one question; or a row's question or right
            option is another one than that of the question with its id.
    """
    read, damaged = _rows(read_entries(file, override))
    known = _Questions(questions)
    by_id = [(row, known.with_id(row)) for row in read]
    twice = [id for id, count in Counter(each.id for _, each in by_id if each).items() if count > 1]
    if twice:
        raise InputError(
            f"{file} has {len(twice)} questions with more than one row, {twice[0]!r} for one",
            f"name the samples file of one run and one task: {override}=...",
        )
    named = {row.where: [question] for row, question in by_id if question}
    found = named | known.with_words([row for row in read if row.where not in named])
    claims = Counter(each.id for candidates in found.values() for each in candidates)
    clear = {
        where: candidates[0]
        for where, candidates in found.items()
        if len(candidates) == 1 and claims[candidates[0].id] == 1
    }
    return Samples(
        rows=tuple(_answer(row, clear[row.where], file) for row in read if row.where in clear),
        unmatched=(*(row.where for row in read if not found[row.where]), *damaged),
        unclear=tuple(row.where for row in read if found[row.where] and row.where not in clear),
    )


@dataclass(frozen=True)
class LmmsEvalSamplesForm:
    """Writes a samples file."""

    metric: str
    """The name of a row's result: ``lvb_acc``, ``mlvu_percetion_score`` (so spelt there) or
    ``videomme_perception_score`` for programs that look for it."""

    @property
    def suffix(self) -> str:
        """JSON Lines."""
        return ".jsonl"

    def samples(self, rows: Sequence[AnswerRow], questions: Sequence[Question]) -> str:
        """One line a question that has a row, in the order of ``questions``, whose number is ``doc_id``.

        A failed answer has an empty text, and is right nowhere.
        """
        numbers = {question.id: number for number, question in enumerate(questions)}
        lines: dict[int, str] = {}
        for row in rows:
            number = numbers.get(row.question.id)
            if number is not None:
                entry = self._entry(number, questions[number], row.answer)
                lines[number] = json.dumps(entry, ensure_ascii=False) + "\n"
        return "".join(lines[number] for number in sorted(lines))

    def _entry(self, number: int, question: Question, answer: Answer) -> dict[str, Any]:
        target = "" if question.correct is None else option_letter(question.correct)
        said = "" if answer.option is None else option_letter(answer.option)
        prompt = _words(question)
        return {
            "doc_id": number,
            "target": target,
            "filtered_resps": answer.text,
            "doc_hash": _hash(json.dumps(asdict(question), sort_keys=True, ensure_ascii=False)),
            "prompt_hash": _hash(prompt),
            "target_hash": _hash(target),
            self.metric: {
                **question.groups,
                "id": question.id,
                "question_id": question.id,
                "answer": target,
                "parsed_pred": said,
                "pred_answer": said,
                "score": float(answer.status is Status.OK and said != "" and said == target),
                "status": answer.status.value,
            },
            "input": prompt,
        }


class _Questions:
    """Finds the question of a row."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._ordered = questions
        self._by_id = {question.id: question for question in questions}
        self._keys = {question.id: _key(_words(question)) for question in questions}

    def with_id(self, row: _Row) -> Question | None:
        """The question of the row; None if there is none."""
        return next((self._by_id[id] for id in sorted(row.ids) if id in self._by_id), None)

    def with_words(self, rows: Sequence[_Row]) -> dict[str, list[Question]]:
        """By the place of each of these rows without an id: all questions that it may be of."""
        numbered = [row for row in rows if row.sample.doc_id < len(self._ordered)]
        if numbered and all(self._at_its_number(row) for row in numbered):
            return {row.where: [question] if (question := self._at_its_number(row)) else [] for row in rows}
        return {row.where: [each for each in self._ordered if self._has_words(row, each)] for row in rows}

    def _at_its_number(self, row: _Row) -> Question | None:
        if not 0 <= row.sample.doc_id < len(self._ordered):
            return None
        question = self._ordered[row.sample.doc_id]
        return question if self._has_words(row, question) else None

    def _has_words(self, row: _Row, question: Question) -> bool:
        key = self._keys[question.id]
        return row.prompt.startswith(key) or key in row.names


def _rows(entries: Sequence[Entry]) -> tuple[list[_Row], list[str]]:
    """The rows, and the places of the damaged ones.

    Raises:
        InputError: there is none but damaged ones, so the file is of another kind.
    """
    rows, faults = [], []
    for entry in entries:
        try:
            rows.append(_row(entry.value, entry.where))
        except InputError as error:
            faults.append((entry.where, error.kept()))
    if not rows:
        raise faults[0][1]
    return rows, [where for where, _ in faults]


def _row(value: Any, where: str) -> _Row:
    sample = checked(_Sample, value, where)
    metrics = [value, *(each for each in value.values() if isinstance(each, dict))]
    ids = {str(metric[field]) for metric in metrics for field in _ID_FIELDS if field in metric}
    return _Row(where, sample, frozenset(ids), frozenset(map(_key, ids)), _key(sample.input))


def _answer(row: _Row, question: Question, file: Path) -> AnswerRow:
    _check_words(row, question)
    _check_target(row, question)
    form = "lmms-eval samples"
    answer = conclude(question, row.text, truncated=False, form=form, frame_times=(), cost=Cost())
    return AnswerRow(key="", sampler="lmms-eval", answerer=file.stem, question=question, answer=answer)


def _check_words(row: _Row, question: Question) -> None:
    # Ids as plain as "55" or "Q0" are in many benchmarks.
    if row.prompt and _key(question.text) not in row.prompt:
        raise InputError(
            f"{row.where}: the prompt does not hold the words of the question {question.id!r}: {question.text!r}",
            "name a samples file of the run's own benchmark",
        )


def _check_target(row: _Row, question: Question) -> None:
    if question.correct is None or question.options is None:
        return
    known = (option_letter(question.correct), str(question.correct), question.options[question.correct])
    if str(row.sample.target) not in known:
        raise InputError(
            f"{row.where}: the right option is {str(row.sample.target)!r},"
            f" and {known[0]!r} in the question {question.id!r}",
            "compare runs over the same annotations of a benchmark",
        )


def _words(question: Question) -> str:
    options = enumerate(without_labels(question.options or ()))
    return "\n".join([question.text, *(f"{option_letter(number)}. {option}" for number, option in options)])


def _key(words: str) -> str:
    """Only letters and digits: ``(A) red`` and ``A. red`` are the same words."""
    return re.sub(r"[\W_]+", "", words).casefold()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
