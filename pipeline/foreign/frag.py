"""The scored frames of FRAG (frame selection augmented generation, arXiv 2504.17447; repository NVlabs/FRAG).

Each question has ``{"id": ..., "frames": [[native frame number], ...], "scores": [...]}`` besides the benchmark's own
fields: all scored frames, of which FRAG shows the best K, as ``selection=topk`` does here. FRAG writes one file per
question, ``ID.json`` in a folder, and reads a JSON list of them. Both are read here, also with frames as plain numbers.

Its result files have no scores and all selected frames in one list, ``"frames": [[0, 25, 50]]``. A file with scores of
pairs of frames (``annot_scores_pairs``) is refused, since a pair's score belongs to neither frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.errors import InputError
from pipeline.foreign.moments import FrameNumber, NativeFrames, Score
from pipeline.foreign.rows import OVERRIDE, ForeignRow, each_row


@dataclass(frozen=True)
class _Row:
    id: str | int
    frames: list[list[FrameNumber] | FrameNumber]
    scores: list[Score] | None = None


@dataclass(frozen=True)
class Frag:
    """Reads FRAG's file, or its folder of files."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row per question; one with unequal numbers of frames and scores carries that fault."""
        return each_row(read_entries(file, OVERRIDE), _row)


def _row(entry: Entry) -> ForeignRow:
    row = entry.as_kind(_Row)
    groups = [frames if isinstance(frames, list) else [frames] for frames in row.frames]
    if row.scores is not None and any(len(group) != 1 for group in groups):
        raise InputError(
            f"{entry.where}: a score belongs to several frames",
            "let FRAG score single frames: its selector_method=annot_scores_frames",
        )
    if row.scores is not None and len(groups) != len(row.scores):
        raise InputError(f"{entry.where}: {len(groups)} frames and {len(row.scores)} scores", "correct the row")
    numbers = tuple(number for group in groups for number in group)
    scores = None if row.scores is None else tuple(row.scores)
    return ForeignRow(entry.where, str(row.id), NativeFrames(numbers, whole_second_stride=False), scores)
