"""Rows that stay on the disk: a file of any size as a sequence, of which only the places are in memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Generic, TypeVar, overload

from pipeline.artefacts.journal import each_line, row_at
from pipeline.artefacts.rows import RelevanceRow, Row, without_numbers
from pipeline.domain import Question
from pipeline.errors import InputError

N = TypeVar("N")
_MOST_LINES = 1 << 17
"""Of known ones: up to some 100 MB with their notes."""


@dataclass
class _Places:
    """Where the rows lie in their file. The arrays are parallel."""

    of_question: dict[str, int] = field(default_factory=dict)
    """By its id, the place of its row in the arrays."""
    numbers: array[int] = field(default_factory=lambda: array("I"))
    """Of lines, for errors."""
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("I"))

    def put(self, question_id: str, number: int, offset: int, length: int) -> None:
        """Add a row, in place of an earlier one of the same question."""
        place = self.of_question.setdefault(question_id, len(self.of_question))
        if place == len(self.offsets):
            for each in (self.numbers, self.offsets, self.lengths):
                each.append(0)
        self.numbers[place], self.offsets[place], self.lengths[place] = number, offset, length


class KnownLines(Generic[N]):
    """What was noted of lines, by their digests: runs of one sampler have thousands in common."""

    def __init__(self) -> None:
        self._notes: dict[bytes, tuple[str, N]] = {}

    def find(self, line: bytes) -> tuple[str, N] | None:
        """The question's id and the note; None for a line that is not known."""
        return self._notes.get(_digest(line))

    def keep(self, line: bytes, note: tuple[str, N]) -> None:
        """Remember a line."""
        if len(self._notes) >= _MOST_LINES:
            self._notes.clear()
        self._notes[_digest(line)] = note


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


@dataclass
class LastRead(Generic[Row]):
    """The row that was read last, with its line: an equal line of another file is not parsed again."""

    line: bytes = b""
    row: Row | None = None


class LastNotes(Generic[N]):
    """For each question the note of the row that was read last: runs of one sampler follow each other, with equal rows.

    It holds no more than one run has, where :class:`KnownLines` knows those of any order.
    """

    def __init__(self) -> None:
        self._notes: dict[str, tuple[bytes, N]] = {}

    def find(self, question_id: str, line: bytes) -> N | None:
        """The note of the question's last row; None if its line was another one."""
        digest, note = self._notes.get(question_id, (b"", None))
        return note if digest == _digest(line) else None

    def keep(self, question_id: str, line: bytes, note: N) -> None:
        """Remember the note in place of an earlier one."""
        self._notes[question_id] = (_digest(line), note)


class StoredRows(Sequence[Row], Generic[Row]):
    """The rows of a file as :func:`pipeline.artefacts.journal.read_rows` gives them, read again whenever they are used.

    :meth:`opened` finds them. Rows that are appended later are not seen.
    """

    def __init__(self, kind: type[Row], path: Path, asked: Mapping[str, Question], places: _Places) -> None:
        self.path = path
        self._kind: type[Row] = kind
        self._asked = asked
        self._places = places

    @staticmethod
    def opened(kind: type[Row], path: Path, asked: Mapping[str, Question]) -> StoredRows[Row]:
        """Open a file and read every row once, so that a file with a row that cannot be used is refused at once.

        Of a relevance the times, scores and indices are only read when the row is used.

        Args:
            kind: what every line must be.
            path: the file.
            asked: the current questions by id.

        Raises:
            InputError: as ``read_rows``.
        """
        return StoredRows.noted(kind, path, asked, lambda row: None)[0]

    @staticmethod
    def noted(
        kind: type[Row],
        path: Path,
        asked: Mapping[str, Question],
        note: Callable[[Row], N],
        known: KnownLines[N] | None = None,
    ) -> tuple[StoredRows[Row], dict[str, N]]:
        """As :meth:`opened`, with what ``note`` gives of every row, by question.

        Args:
            kind: what every line must be.
            path: the file.
            asked: the current questions by id.
            note: takes the row, of a relevance without its times, scores and indices.
            known: notes of lines of other files, which are not read again. All must have the same ``asked`` and
                ``note``.

        Raises:
            InputError: as ``read_rows``.
        """
        places = _Places()
        notes: dict[str, N] = {}
        shortened = without_numbers if issubclass(kind, RelevanceRow) else bytes  # looking for numbers takes its time

        def read(line: bytes, where: str, faults: list[InputError]) -> tuple[str, N] | None:
            short = shortened(line)
            found = None if known is None else known.find(short)
            if found is not None:
                return found
            before = len(faults)
            row = row_at(kind, short, where, asked, faults)
            if row is None:
                return None
            taken = (row.question.id, note(row))
            if known is not None and len(faults) == before:
                known.keep(short, taken)
            return taken

        for number, offset, length, (question_id, said) in each_line(path, read):
            places.put(question_id, number, offset, length)
            notes[question_id] = said
        return StoredRows(kind, path, asked, places), notes

    def find(self, question_id: str, last: LastRead[Row] | None = None) -> Row | None:
        """The row of a question; None if there is none.

        ``last`` is what was read of the same question in another file; its row is taken where the line is the same.
        """
        place = self._places.of_question.get(question_id)
        if place is None:
            return None
        with self.path.open("rb", buffering=0) as file:
            line = self._line(file, place)
        if last is None:
            return self._row(line, place)
        if last.row is None or last.line != line:
            last.line, last.row = line, self._row(line, place)
        return last.row

    def notes_of(
        self, ids: Iterable[str], note: Callable[[Row], N], last: LastNotes[N] | None = None
    ) -> Iterator[N | None]:
        """What ``note`` gives of the row of each question, in the order of ``ids``; None where there is no row.

        Args:
            ids: of the questions.
            note: takes the row.
            last: keeps the notes, and gives those of equal lines of other files. All must have the same ``asked`` and
                ``note``.

        Raises:
            InputError: the file has changed, or has gone away.
        """
        try:
            with self.path.open("rb") as file:
                for question_id in ids:
                    place = self._places.of_question.get(question_id)
                    if place is None:
                        yield None
                        continue
                    line = self._line(file, place)
                    found = None if last is None else last.find(question_id, line)
                    if found is None:
                        found = note(self._row(line, place))
                        if last is not None:
                            last.keep(question_id, line, found)
                    yield found
        except OSError as error:
            raise self._changed() from error

    def without_numbers(self) -> Iterator[Row]:
        """The rows, relevances without their times, scores and indices, which takes a fraction of the time."""
        return self._read_all(without_numbers)

    def within(self, ids: Collection[str]) -> StoredRows[Row]:
        """The rows of these questions alone."""
        return self.in_order(question_id for question_id in self._places.of_question if question_id in ids)

    def about(self, questions: Mapping[str, Question]) -> StoredRows[Row]:
        """The rows of these questions, by id, joined with them: their labels and videos may be others."""
        return StoredRows(self._kind, self.path, questions, self.within(questions)._places)

    def in_order(self, ids: Iterable[str]) -> StoredRows[Row]:
        """The rows of these questions in this order, each of which must have one."""
        places, known = _Places(), self._places
        for question_id in ids:
            place = known.of_question[question_id]
            places.put(question_id, known.numbers[place], known.offsets[place], known.lengths[place])
        return StoredRows(self._kind, self.path, self._asked, places)

    @property
    def order(self) -> Mapping[str, int]:
        """The place of each question's row, by the question's id."""
        return self._places.of_question

    def share_ids(self, known: list[dict[str, int]]) -> None:
        """Hold the ids in one place with other files of the same questions in the same order, listed in ``known``."""
        for others in known:
            if others == self._places.of_question:
                self._places.of_question = others
                return
        known.append(self._places.of_question)

    def __len__(self) -> int:
        return len(self._places.of_question)

    def __iter__(self) -> Iterator[Row]:
        return self._read_all(bytes)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        chosen = range(len(self))[place]
        with self.path.open("rb") as file:
            if isinstance(chosen, range):
                return [self._row(self._line(file, each), each) for each in chosen]
            return self._row(self._line(file, chosen), chosen)

    def _read_all(self, shortened: Callable[[bytes], bytes]) -> Iterator[Row]:
        with self.path.open("rb") as file:
            for place in range(len(self)):
                yield self._row(shortened(self._line(file, place)), place)

    def _line(self, file: IO[bytes], place: int) -> bytes:
        file.seek(self._places.offsets[place])
        return file.read(self._places.lengths[place])

    def _row(self, line: bytes, place: int) -> Row:
        row = row_at(self._kind, line, f"{self.path}:{self._places.numbers[place]}", self._asked)
        if row is None or self._places.of_question.get(row.question.id) != place:
            raise self._changed()
        return row

    def _changed(self) -> InputError:
        return InputError(f"{self.path} has changed while it was read", "run the same command again")
