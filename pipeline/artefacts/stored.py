"""Rows that stay on the disk: a file of any size as a sequence, of which only the places are in memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Generic, overload

from pipeline.artefacts.journal import row_at, rows_of
from pipeline.artefacts.rows import Row
from pipeline.domain import Question
from pipeline.errors import InputError


class StoredRows(Sequence[Row], Generic[Row]):
    """The rows of a file as :func:`pipeline.artefacts.journal.read_rows` gives them, read again whenever they are used.

    Every row is read once at the beginning, so that a file with a row that cannot be used is refused at once. Rows that
    are appended later are not seen.

    Args:
        kind: what every line must be.
        path: the file.
        asked: the current questions by id.
        note: called with every row that counts so far; a later row of the same question takes its place.

    Raises:
        InputError: as ``read_rows``.
    """

    def __init__(
        self,
        kind: type[Row],
        path: Path,
        asked: Mapping[str, Question],
        note: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self.path = path
        self._kind: type[Row] = kind
        self._asked = asked
        self._places: dict[str, int] = {}
        """Of a question's row in the arrays."""
        self._numbers = array("q")
        self._offsets = array("q")
        self._lengths = array("q")
        for number, offset, length, row in rows_of(kind, path, asked):
            place = self._places.setdefault(row.question.id, len(self._places))
            if place == len(self._offsets):
                for each in (self._numbers, self._offsets, self._lengths):
                    each.append(0)
            self._numbers[place], self._offsets[place], self._lengths[place] = number, offset, length
            note(row)

    def find(self, question_id: str) -> Row | None:
        """The row of a question; None if there is none."""
        place = self._places.get(question_id)
        return None if place is None else self[place]

    def within(self, ids: Collection[str]) -> StoredRows[Row]:
        """The rows of these questions alone."""
        return self.in_order(question_id for question_id in self._places if question_id in ids)

    def about(self, questions: Mapping[str, Question]) -> StoredRows[Row]:
        """The rows of these questions, by id, joined with them: their labels and videos may be others."""
        part = self.within(questions)
        part._asked = questions
        return part

    def in_order(self, ids: Iterable[str]) -> StoredRows[Row]:
        """The rows of these questions in this order, each of which must have one."""
        part: StoredRows[Row] = StoredRows.__new__(StoredRows)
        vars(part).update(vars(self))
        part._places = {}
        part._numbers, part._offsets, part._lengths = array("q"), array("q"), array("q")
        for question_id in ids:
            place = self._places[question_id]
            part._places[question_id] = len(part._places)
            part._numbers.append(self._numbers[place])
            part._offsets.append(self._offsets[place])
            part._lengths.append(self._lengths[place])
        return part

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            for place in range(len(self)):
                yield self._read(file, place)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        chosen = range(len(self))[place]
        with self.path.open("rb") as file:
            if isinstance(chosen, range):
                return [self._read(file, each) for each in chosen]
            return self._read(file, chosen)

    def _read(self, file: BinaryIO, place: int) -> Row:
        file.seek(self._offsets[place])
        line = file.read(self._lengths[place])
        row = row_at(self._kind, line, f"{self.path}:{self._numbers[place]}", self._asked)
        if row is None or self._places.get(row.question.id) != place:
            raise InputError(f"{self.path} has changed while it was read", "run the same command again")
        return row
