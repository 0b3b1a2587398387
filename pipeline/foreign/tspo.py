"""The selected frames of TSPO (arXiv 2508.04369; repository Hui-design/TSPO).

The benchmark's annotation rows, each with ``frame_idx`` added: native frame numbers, written with a point. The id is
the row's ``id`` or, in benchmarks that have none, its ``question_id``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.entries import checked, read_entries
from pipeline.errors import InputError
from pipeline.foreign import ForeignRow
from pipeline.foreign.moments import NativeFrames


@dataclass(frozen=True)
class _Entry:
    frame_idx: list[float]
    id: str | int | None = None
    question_id: str | int | None = None
    question: str | None = None


@dataclass(frozen=True)
class Tspo:
    """Reads TSPO's annotation file, a JSON list or JSON Lines."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row an annotation.

        Raises:
            InputError: a row has neither id, or a frame number that is not whole.
        """
        return [_row(checked(_Entry, value, where), where) for where, value in read_entries(file, "sampler.path")]


def _row(entry: _Entry, where: str) -> ForeignRow:
    question_id = entry.id if entry.id is not None else entry.question_id
    if question_id is None:
        raise InputError(f"{where}: neither id nor question_id", "give every row the id of its question")
    for number in entry.frame_idx:
        if number != int(number):
            raise InputError(f"{where}: {number} is not a frame number", "TSPO's frame_idx counts native frames")
    moments = NativeFrames(tuple(entry.frame_idx), whole_second_stride=False)
    return ForeignRow(where, str(question_id), moments, None, entry.question)
