"""A selection file from elsewhere as the second stage takes it: checked as a whole, and read again row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

from pipeline.artefacts.folder import QUESTIONS_FILE, sibling_questions
from pipeline.artefacts.rows import SelectionRow, is_same_question
from pipeline.artefacts.stored import StoredRows
from pipeline.domain import Status
from pipeline.errors import InputError, with_remedy


class GivenSelections(Sequence[SelectionRow]):
    """The rows of a selection file, all of one sampler. They stay on the disk.

    Args:
        rows: as they are in the file.
        sampler: the one that counts; None if no row has frames.
    """

    def __init__(self, rows: StoredRows[SelectionRow], sampler: str | None) -> None:
        self._rows = rows
        self._sampler = sampler

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[SelectionRow]:
        return map(self._of_sampler, self._rows)

    @overload
    def __getitem__(self, place: int) -> SelectionRow: ...
    @overload
    def __getitem__(self, place: slice) -> list[SelectionRow]: ...
    def __getitem__(self, place: int | slice) -> SelectionRow | list[SelectionRow]:
        found = self._rows[place]
        return [self._of_sampler(row) for row in found] if isinstance(found, list) else self._of_sampler(found)

    def _of_sampler(self, row: SelectionRow) -> SelectionRow:
        """The row, or the failure of its question where its frames are another sampler's: a run is of one."""
        if self._sampler is None or row.sampler == self._sampler:
            return row
        if row.selection.status is not Status.OK:
            return replace(row, sampler=self._sampler)
        detail = with_remedy(
            f"{self._rows.path}: the frames of {row.question.id!r} are of the sampler {row.sampler!r}, those of other "
            f"rows of {self._sampler!r}",
            "give each sampler's rows a file of their own",
        )
        failed = replace(row.selection, frames=(), status=Status.INVALID_OUTPUT, detail=detail)
        return replace(row, sampler=self._sampler, video=None, selection=failed)


def read_selections(file: Path, limit: int | None = None) -> GivenSelections:
    """The first ``limit`` rows of a selection file, with the labels of the ``questions.jsonl`` next to it, if any.

    What cannot be used of a row is the failure of its question.

    Raises:
        InputError: no such file, it holds no row, or a row's question is another one there.
    """
    rows, held = StoredRows.noted(
        SelectionRow, file, {}, lambda row: (row.question, None if row.video is None else row.sampler)
    )
    if not held:
        raise InputError(f"{file} holds no selection", "name a selections.jsonl that gens sample has finished")
    asked = sibling_questions(file)
    for question, _ in held.values():
        known = asked.get(question.id, question)
        if not is_same_question(known, question):
            raise InputError(
                f"{file}: the question {question.id!r} is {question.text!r} with the options "
                f"{question.options}, and {QUESTIONS_FILE} next to it has {known.text!r} with {known.options}",
                "select again with gens sample, or move the file into a folder of its own",
            )
    questions = {question_id: asked.get(question_id, question) for question_id, (question, _) in held.items()}
    samplers = Counter(sampler for _, sampler in held.values() if sampler is not None).most_common(1)
    chosen = {question_id: questions[question_id] for question_id in list(questions)[:limit]}
    return GivenSelections(rows.about(chosen), samplers[0][0] if samplers else None)
