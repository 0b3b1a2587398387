"""The rows of a foreign selection file: one per entry. The row of a damaged entry carries its fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.artefacts.entries import Entry
from pipeline.errors import InputError
from pipeline.foreign.moments import Moments, Seconds
from pipeline.paths import local_path

OVERRIDE = "sampler.path"
"""The key that names the file."""
_ID_FIELDS = ("id", "question_id", "doc_id")


@dataclass(frozen=True)
class ForeignRow:
    """One question's row of a foreign file."""

    where: str
    """File and line or entry, for errors."""
    question_id: str | None
    """None where the file has no id: the question is then found by its video and text."""
    moments: Moments
    """In the file's own unit and order."""
    scores: tuple[float, ...] | None = None
    """Parallel to the moments, if the file has any."""
    text: str | None = None
    """The question as stored in the file, possibly with its options or a prompt around it."""
    video: str | None = None
    """File name of the question's video, with or without its ending, where the row may be found by video and text."""
    ranked: bool = False
    """Whether the moments are in order of score, best first, which is finer than the rounded scores."""
    fault: InputError | None = None
    """Why the row cannot be used."""


def each_row(entries: Iterable[Entry], make: Callable[[Entry], ForeignRow | None]) -> list[ForeignRow]:
    """The row of each entry by ``make``, which returns None for an entry without a question.

    If ``make`` raises InputError, the row carries it, with the entry's id if that can be read.
    """
    rows = []
    for entry in entries:
        try:
            row = make(entry)
            if row is not None and row.video is not None:
                _check_video(row.video, entry.where)
        except InputError as error:
            row = ForeignRow(entry.where, id_of(entry.read), Seconds(()), fault=error.kept())
        if row is not None:
            rows.append(row)
    return rows


def _check_video(video: str, where: str) -> None:
    try:
        local_path(video)
    except InputError as error:
        raise InputError(f"{where}: {error.problem}", error.remedy) from error


def id_of(value: Any) -> str | None:
    """The id of a row under any of the known field names; None if it has none."""
    row = value if isinstance(value, Mapping) else {}
    found = (row[field] for field in _ID_FIELDS if isinstance(row.get(field), str | int))
    return next((str(each) for each in found if not isinstance(each, bool)), None)
