"""The scored frames of FRAG (frame selection augmented generation, arXiv 2504.17447).

``{"id": ..., "frames": [native frame number, ...], "scores": [...]}`` a question, as a JSON list or JSON Lines: all
frames that were scored, of which FRAG then shows the best K. So does ``selection=topk`` here.
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
    id: str | int
    frames: list[int]
    scores: list[float]


@dataclass(frozen=True)
class Frag:
    """Reads FRAG's file."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row a question.

        Raises:
            InputError: frames and scores are not as many.
        """
        return [_row(checked(_Entry, value, where), where) for where, value in read_entries(file, "sampler.path")]


def _row(entry: _Entry, where: str) -> ForeignRow:
    if len(entry.frames) != len(entry.scores):
        raise InputError(f"{where}: {len(entry.frames)} frames and {len(entry.scores)} scores", "mend the row")
    moments = NativeFrames(tuple(entry.frames), whole_second_stride=False)
    return ForeignRow(where, str(entry.id), moments, tuple(entry.scores))
