"""The selected frames of BOLT (arXiv 2503.21483; ``select_frames.py`` of the repository sming256/BOLT).

One JSON object, ``{video: [{"question_id": ..., "question": ..., "frames": [second, ...]}]}``. Inverse transform
sampling may draw a second twice; here it counts once.

For MLVU, whose rows had no ids, BOLT writes the video's file name as ``question_id`` and the first line of the
question. So a row whose ``question_id`` is the id of no question is found by its video and its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts.entries import Entry, read_json
from pipeline.errors import InputError
from pipeline.foreign.moments import Second, Seconds
from pipeline.foreign.rows import OVERRIDE, ForeignRow, each_row


@dataclass(frozen=True)
class _Row:
    question_id: str | int
    frames: list[Second]
    question: str | None = None


@dataclass(frozen=True)
class Bolt:
    """Reads BOLT's file."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row per question of each video."""
        videos = read_json(file, OVERRIDE)
        if not isinstance(videos, dict) or not all(isinstance(entries, list) for entries in videos.values()):
            raise InputError(
                f"{file} is not an object of videos with a list of questions each", "check it: sampler.path=..."
            )
        return [row for video, values in videos.items() for row in _of_video(file, video, values)]


def _of_video(file: Path, video: str, values: Sequence[Any]) -> list[ForeignRow]:
    def made(entry: Entry) -> ForeignRow:
        row = entry.as_kind(_Row)
        return ForeignRow(
            where=entry.where,
            question_id=str(row.question_id),
            moments=Seconds(tuple(row.frames)),
            text=row.question,
            video=video,
        )

    entries = (
        Entry(f"{file}: {video!r}, entry {number}", f"entry {number}", value)
        for number, value in enumerate(values, start=1)
    )
    return each_row(entries, made)
