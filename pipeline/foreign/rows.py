"""The rows of a foreign selection file: one an entry, and one that carries its fault for an entry that is damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.artefacts.entries import Entry
from pipeline.errors import InputError
from pipeline.foreign.moments import Moments, Seconds

OVERRIDE = "sampler.path"
"""The key that names the file."""
_ID_FIELDS = ("id", "question_id", "doc_id")


@dataclass(frozen=True)
class ForeignRow:
    """What a foreign file says of one question."""

    where: str
    """File and line or entry, for errors."""
    question_id: str | None
    """None where the file has no id for it: it is then found by its video and its text."""
    moments: Moments
    """In the file's own count, in the file's order."""
    scores: tuple[float, ...] | None = None
    """Parallel to the moments, if the file has any."""
    text: str | None = None
    """The question as the file has it, perhaps with its options or a prompt around it."""
    video: str | None = None
    """File name of the question's video, with or without its ending, where the row may be found by video and text."""
    ranked: bool = False
    """Whether the moments are in order of score, best first, and finer so than the scores are written."""
    fault: InputError | None = None
    """Why the row cannot be used."""


def each_row(entries: Iterable[Entry], make: Callable[[Entry], ForeignRow | None]) -> list[ForeignRow]:
    """The row that ``make`` makes of each entry; None for an entry that is of no question.

    Where ``make`` raises InputError, the row carries it, with the entry's id if that can be read.
    """
    rows = []
    for entry in entries:
        try:
            row = make(entry)
        except InputError as error:
            row = ForeignRow(entry.where, id_of(entry.read), Seconds(()), fault=error)
        if row is not None:
            rows.append(row)
    return rows


def id_of(value: Any) -> str | None:
    """The id of a row, whatever its format calls it; None if it has none."""
    row = value if isinstance(value, Mapping) else {}
    found = (row[field] for field in _ID_FIELDS if isinstance(row.get(field), str | int))
    return next((str(each) for each in found if not isinstance(each, bool)), None)
