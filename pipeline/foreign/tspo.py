"""The selected frames of TSPO (arXiv 2508.04369; repository Hui-design/TSPO, ``evaluation/jsons_idx``).

The benchmark's annotation rows, each with ``frame_idx`` added: native frame numbers, written as decimals. The id is the
row's ``id`` or, in benchmarks without one, its ``question_id``. A row for which TSPO made no selection has no
``frame_idx`` and is skipped. A question with another id is found by the row's video and text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.errors import InputError
from pipeline.foreign.moments import FrameNumber, NativeFrames
from pipeline.foreign.rows import OVERRIDE, ForeignRow, each_row


@dataclass(frozen=True)
class _Row:
    frame_idx: list[FrameNumber] | None = None
    id: str | int | None = None
    question_id: str | int | None = None
    question: str | None = None
    # the video's field in LongVideoBench, MLVU's re-pack, MLVU and Video-MME
    video_path: str | None = None
    video_name: str | None = None
    video: str | None = None
    videoID: str | None = None


@dataclass(frozen=True)
class Tspo:
    """Reads TSPO's annotation file, a JSON list or JSON Lines."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row per annotation with frames; a row without an id carries that fault.

        Raises:
            InputError: no row has frames.
        """
        rows = each_row(read_entries(file, OVERRIDE), _row)
        if not rows:
            raise InputError(f"{file}: no row has frame_idx", "name TSPO's *_frameIdx.json: sampler.path=...")
        return rows


def _row(entry: Entry) -> ForeignRow | None:
    row = entry.as_kind(_Row)
    if row.frame_idx is None:
        return None
    question_id = row.id if row.id is not None else row.question_id
    if question_id is None:
        raise InputError(f"{entry.where}: neither id nor question_id", "give every row the id of its question")
    return ForeignRow(
        where=entry.where,
        question_id=str(question_id),
        moments=NativeFrames(tuple(row.frame_idx), whole_second_stride=False),
        text=row.question,
        video=row.video_path or row.video_name or row.video or row.videoID,
    )
