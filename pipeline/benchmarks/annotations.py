"""Shared by the loaders of published benchmarks: rows are checked one by one, ids are unique, and rows are counted.

An incomplete annotation file would give a number that looks like the published one. So the rows are counted before
anything is asked, and a part is only run on request: ``rows=null``, or a list of ``ids``.

A row that cannot be used becomes a question that fails by name, and the others are asked. If no row can be used, the
file is of another kind, and the command ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated as Described

from pydantic import Field

from pipeline.artefacts.entries import Entry
from pipeline.benchmarks.faults import unusable
from pipeline.benchmarks.subsets import read_ids
from pipeline.domain import LONGEST, Question
from pipeline.errors import InputError
from pipeline.identity import Label, Place, RowFile
from pipeline.paths import local_path
from pipeline.validation import question_fault

HALF_HOUR = 1800.0
Length = Described[float, Field(ge=0, le=LONGEST, allow_inf_nan=False)]
"""Length of a video, in seconds or minutes."""
OVERRIDE = "benchmark.path"
"""The key that names the annotation file."""


@dataclass(frozen=True)
class Annotated:
    """A question and the video's length from its row."""

    question: Question
    duration: float | None
    """Length of the whole video in seconds; None if the row does not say."""
    error: InputError | None = None
    """Why the row cannot be used; its question is then a placeholder."""
    place: str = ""
    """The place in the file of a row that cannot be used."""


def of_each(entries: Iterable[Entry], make: Callable[[Entry], Iterable[Annotated]]) -> Iterator[Annotated]:
    """The questions that ``make`` gives for each entry, or one that fails by name where it raises InputError."""
    for entry in entries:
        try:
            made = list(make(entry))
            _check((each.question for each in made), entry.where)
        except InputError as error:
            made = [Annotated(unusable(entry.read, entry.name, error), None, error.kept(), entry.name)]
        yield from made


def _check(questions: Iterable[Question], where: str) -> None:
    """Raise InputError for what nothing can be asked with, such as a path with a NUL, which no system call takes."""
    for question in questions:
        fault = question_fault(question)
        if fault is not None:
            raise InputError(f"{where}: {fault}", "correct the row")


@dataclass(frozen=True)
class AnnotatedBenchmark(ABC):
    """The questions of a published annotation file."""

    name: str
    path: RowFile[str]
    """The annotation file."""
    video_root: Place[str | None]
    """Folder of the videos; None: as in the benchmark's own layout, relative to the file."""
    rows: Label[tuple[int, ...] | None]
    """Numbers of questions of a complete file; None allows any number, to run a part of the benchmark."""
    ids: RowFile[str | None]
    """A file with the ids of the questions to ask, one per line or as a JSON list; None: all."""

    def questions(self) -> Sequence[Question]:
        """The questions in the order of the file.

        Raises:
            InputError: the file cannot be read, is not complete, or holds no row that can be used.
        """
        return [row.question for row in self._rows]

    def durations(self) -> Mapping[str, float]:
        """Seconds by path of the video, where the annotations say them."""
        return {row.question.video: row.duration for row in self._rows if row.duration is not None}

    @abstractmethod
    def read(self, file: Path) -> Iterator[Annotated]:
        """Every row of ``file``, which exists.

        Raises:
            InputError: the file cannot be read at all.
        """

    def leaves_out(self, question: Question) -> bool:
        """Whether the settings leave this question out."""
        return False

    @cached_property
    def _rows(self) -> tuple[Annotated, ...]:
        file = local_path(self.path)
        if not file.exists():
            raise InputError(
                f"there is no file {file}",
                f"gens download benchmark={self.name} says where to get it; if it is elsewhere: benchmark.path=...",
            )
        rows = _unique(self.read(file), file)
        faults = [row.error for row in rows.values() if row.error]
        if faults and len(faults) == len(rows):
            raise InputError(
                f"{faults[0].problem} (no row of {len(rows)} can be used)",
                f"{faults[0].remedy}; re-packs of a benchmark have other fields, and the published files are those "
                f"that gens download benchmark={self.name} names: benchmark.path=...",
            )
        if self.rows is not None and len(rows) not in self.rows:
            complete = " or ".join(str(count) for count in self.rows)
            raise InputError(
                f"{file} holds {len(rows)} questions, and the complete benchmark {complete}",
                f"fetch it again (gens download benchmark={self.name}); to run this part of it: benchmark.rows=null",
            )
        kept = tuple(row for row in rows.values() if row.error or not self.leaves_out(row.question))
        if self.ids is not None:
            wanted = read_ids(local_path(self.ids), "benchmark.ids", rows)
            kept = tuple(row for row in kept if row.question.id in wanted)
        if not kept:
            raise InputError(f"{file} holds no question", "check the file and what the settings leave out of it")
        return kept


def half_hours(seconds: float) -> str:
    """The group of a video of this length, such as ``30-60 min``, for benchmarks without groups of their own."""
    start = int(seconds // HALF_HOUR) * 30
    return f"{start}-{start + 30} min"


def _unique(rows: Iterable[Annotated], file: Path) -> dict[str, Annotated]:
    kept: dict[str, Annotated] = {}
    for row in rows:
        if row.error and row.question.id in kept:
            row = replace(row, question=replace(row.question, id=f"{row.question.id}, {row.place}"))  # noqa: PLW2901
        if row.question.id in kept:
            raise InputError(f"{file}: the id {row.question.id!r} stands twice", "fetch the annotations again")
        kept[row.question.id] = row
    return kept
