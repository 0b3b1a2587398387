"""Where the rows of a run go, and where they are read again: the files of a run folder, or memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol

from pipeline.artefacts.folder import ANSWERS_FILE, RELEVANCE_FILE, SELECTIONS_FILE
from pipeline.artefacts.journal import Journal
from pipeline.artefacts.rows import AnswerRow, KeyedRow, RelevanceRow, SelectionRow
from pipeline.artefacts.stored import StoredRows
from pipeline.domain import Question

_FILES: Mapping[type, str] = {
    RelevanceRow: RELEVANCE_FILE,
    SelectionRow: SELECTIONS_FILE,
    AnswerRow: ANSWERS_FILE,
}


class Sink(Protocol[KeyedRow]):
    """Takes the rows of one stage as they are finished. A later row of a question replaces an earlier one."""

    def find(self, question: Question, key: str) -> KeyedRow | None:
        """The row of this question and key, with the question as given; None if there is none."""
        ...

    def append(self, row: KeyedRow) -> None:
        """Take the row.

        Raises:
            StorageError: it cannot be written.
        """
        ...

    def keep(self, row: KeyedRow) -> bool:
        """Take the row unless the same one is there already. Returns whether it is."""
        ...


class Results(Protocol):
    """The rows of a run, one sink a stage."""

    def sink(self, kind: type[KeyedRow]) -> AbstractContextManager[Sink[KeyedRow]]:
        """Open the sink of a stage."""
        ...

    def rows(self, kind: type[KeyedRow], asked: Mapping[str, Question]) -> Sequence[KeyedRow]:
        """The rows of these questions, by id and in this order; each must have one."""
        ...


@dataclass(frozen=True)
class RunFolder:
    """The files of a run folder. Rows are on the disk as soon as they are taken, and stay there."""

    folder: Path

    def sink(self, kind: type[KeyedRow]) -> Journal[KeyedRow]:
        """As :class:`Results`."""
        return Journal(kind, self.folder / _FILES[kind])

    def rows(self, kind: type[KeyedRow], asked: Mapping[str, Question]) -> StoredRows[KeyedRow]:
        """As :class:`Results`."""
        return StoredRows.opened(kind, self.folder / _FILES[kind], asked).in_order(asked)


class HeldRows(Generic[KeyedRow]):
    """The rows of one stage in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, KeyedRow] = {}

    def find(self, question: Question, key: str) -> KeyedRow | None:
        """As :class:`Sink`."""
        row = self._rows.get(question.id)
        return row if row is not None and row.key == key and row.question == question else None

    def append(self, row: KeyedRow) -> None:
        """As :class:`Sink`."""
        self._rows[row.question.id] = row

    def keep(self, row: KeyedRow) -> bool:
        """As :class:`Sink`."""
        if self.find(row.question, row.key) == row:
            return True
        self.append(row)
        return False

    def of(self, asked: Iterable[str]) -> tuple[KeyedRow, ...]:
        """The rows of these questions, by id."""
        return tuple(self._rows[question_id] for question_id in asked)


class Held:
    """Rows in memory, for as long as this object is. Nothing is written."""

    def __init__(self) -> None:
        self._sinks: dict[type, HeldRows[Any]] = {}

    @contextmanager
    def sink(self, kind: type[KeyedRow]) -> Iterator[HeldRows[KeyedRow]]:
        """As :class:`Results`."""
        yield self._of(kind)

    def rows(self, kind: type[KeyedRow], asked: Mapping[str, Question]) -> tuple[KeyedRow, ...]:
        """As :class:`Results`."""
        return self._of(kind).of(asked)

    def _of(self, kind: type[KeyedRow]) -> HeldRows[KeyedRow]:
        return self._sinks.setdefault(kind, HeldRows())


def results_in(place: Path | Results) -> Results:
    """A run folder named by its path is as good as its results."""
    return RunFolder(place) if isinstance(place, Path) else place
