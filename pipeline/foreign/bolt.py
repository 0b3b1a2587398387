"""The selected frames of BOLT (arXiv 2503.21483): inverse transform sampling over frame scores.

One JSON object, ``{video: [{"question_id": ..., "question": ..., "frames": [second, ...]}]}``. The sampling may draw a
second twice; it is one moment here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.entries import checked, read_json
from pipeline.errors import InputError
from pipeline.foreign import ForeignRow
from pipeline.foreign.moments import Seconds


@dataclass(frozen=True)
class _Entry:
    question_id: str | int
    frames: list[float]
    question: str | None = None


@dataclass(frozen=True)
class Bolt:
    """Reads BOLT's file."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row a question of each video."""
        videos = read_json(file, "sampler.path")
        if not isinstance(videos, dict) or not all(isinstance(entries, list) for entries in videos.values()):
            raise InputError(
                f"{file} is not an object of videos with a list of questions each", "check it: sampler.path=..."
            )
        rows = []
        for video, entries in videos.items():
            for number, value in enumerate(entries, start=1):
                where = f"{file}: {video!r}, entry {number}"
                entry = checked(_Entry, value, where)
                moments = Seconds(tuple(entry.frames))
                rows.append(ForeignRow(where, str(entry.question_id), moments, None, entry.question))
        return rows
