"""The selection files of GenS's evaluation code ("rag files"), both ways.

Source: GenS (arXiv 2503.09146), evaluation code. JSON Lines::

    {"id": "v_0", "video_id": "v", "video_path": "v.mp4", "question": "...", "fps": 1.0,
     "rag_images": ["v/12.jpg", "v/40.jpg"], "rag_sim": [5, 3]}

The second of an image is the number that its file name ends in, divided by ``fps``; ``rag_sim`` is the score. The code
keys rows by video, so that the questions of one video overwrite each other; here rows are joined by question id. It
shuffles ties; here the selection policy has a rule for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.artefacts.rows import SelectionRow
from pipeline.domain import SelectedFrame
from pipeline.errors import ConfigError, InputError
from pipeline.foreign.moments import Rate, Score, Seconds
from pipeline.foreign.rows import OVERRIDE, ForeignRow, each_row


@dataclass(frozen=True)
class _Row:
    id: str | int
    fps: Rate
    rag_images: list[str]
    rag_sim: list[Score] | None = None
    question: str | None = None


@dataclass(frozen=True)
class GensRag:
    """Reads a rag file."""

    first_number: int
    """Number of the image at second 0: 0 in GenS's own example, 1 where ffmpeg named the images."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row per line."""
        return each_row(read_entries(file, OVERRIDE), self._row)

    def _row(self, entry: Entry) -> ForeignRow:
        row, where = entry.as_kind(_Row), entry.where
        if row.rag_sim is not None and len(row.rag_sim) != len(row.rag_images):
            raise InputError(
                f"{where}: {len(row.rag_images)} rag_images and {len(row.rag_sim)} rag_sim", "correct the row"
            )
        seconds = tuple((_number(image, where) - self.first_number) / row.fps for image in row.rag_images)
        scores = None if row.rag_sim is None else tuple(row.rag_sim)
        return ForeignRow(where, str(row.id), Seconds(seconds), scores, row.question)


@dataclass(frozen=True)
class GensRagForm:
    """Writes a rag file.

    A frame that was not chosen for its score (fill, uniform) gets the score 0, which in GenS is "not named".
    """

    fps: float | None
    """Frames a second of the images that the other side has extracted: a moment goes to the image shown then. None: the
    video's own rate, so that no moment is moved by more than half a frame; a number is that of the native frame where
    the rate is constant and the video begins at second 0."""
    image: str
    """Path of an image, from ``{video_id}`` (the video's file name without its ending) and ``{number}``."""

    def __post_init__(self) -> None:
        if self.fps is not None and not self.fps > 0:
            raise ConfigError(f"form.fps={self.fps} is not a rate", "set form.fps=1, or form.fps=null")
        try:
            number = _number(self.image.format(video_id="v", number=7), "form.image")
        except (InputError, KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"form.image={self.image!r} cannot be read back", _IMAGE) from error
        if number != 7:
            raise ConfigError(f"form.image={self.image!r} does not end in the number", _IMAGE)

    @property
    def suffix(self) -> str:
        """JSON Lines."""
        return ".jsonl"

    def text(self, rows: Sequence[SelectionRow]) -> str:
        """One line per question."""
        return "".join(json.dumps(self._entry(row), ensure_ascii=False) + "\n" for row in rows)

    def _entry(self, row: SelectionRow) -> dict[str, Any]:
        video_id = PurePosixPath(row.question.video).stem
        fps = self.fps or (row.video.fps if row.video else 1.0)
        numbers = [self._number(frame, fps) for frame in row.selection.frames]
        return {
            "id": row.question.id,
            "video_id": video_id,
            "video_path": row.question.video,
            "question": row.question.text,
            "fps": fps,
            "rag_images": [self.image.format(video_id=video_id, number=number) for number in numbers],
            "rag_sim": [frame.score or 0.0 for frame in row.selection.frames],
        }

    def _number(self, frame: SelectedFrame, fps: float) -> int:
        return round(frame.time * fps) if self.fps is None else int((frame.time + _ROUNDING) * fps)


_IMAGE = "its file name must end in the number: \"form.image='{video_id}/{number}.jpg'\""
_ROUNDING = 1e-3
"""Seconds: ``(i / fps) * fps`` may come out below i."""


def _number(image: str, where: str) -> int:
    found = re.search(r"([0-9]{1,15})$", PurePosixPath(image).stem)
    if found is None:
        raise InputError(f"{where}: the image {image!r} has no number in its name", "correct the row")
    return int(found.group(1))
