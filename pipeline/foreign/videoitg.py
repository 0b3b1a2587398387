"""The ranked frames of VideoITG (arXiv 2507.13353; repository NVlabs/VideoITG), as its model in lmms-eval writes them.

JSON Lines::

    {"doc_id": 3, "video_path": "v.mp4", "contexts": "...", "index": [510, 90], "logits": [0.97, 0.4], "num_frames": 1}

``index`` holds native frame numbers (``frame_idx`` of ``lmms_eval/models/videoitg.py``, and the repository's README),
best first; ``logits`` are their scores in 0..1, rounded to two places, so that the order is finer. The answerers there
show the first K, as ``selection=topk`` does here. ``num_frames`` is the number of videos.

The other form, ``{"doc_id": 3, "index": [90, 510]}``, has selected frames and no scores. In order of time they count as
equal; in any other order they are ranked.

Older versions write one file per question, ``DOC_ID.json`` in a folder, without ``doc_id`` in it. ``doc_id`` is the
number of the annotation row from 0, or the question's own id where no annotation file is named. ``contexts`` holds the
question, which is checked. A resumed run may write rows twice: equal ones count once, others are an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.entries import Entry, read_entries
from pipeline.errors import InputError
from pipeline.foreign.annotated import annotated_ids
from pipeline.foreign.moments import FrameNumber, NativeFrames, Score
from pipeline.foreign.rows import OVERRIDE, ForeignRow, each_row
from pipeline.paths import local_path


@dataclass(frozen=True)
class _Row:
    index: list[FrameNumber]
    logits: list[Score] | None = None
    doc_id: str | int | None = None
    contexts: str | None = None


@dataclass(frozen=True)
class VideoItg:
    """Reads VideoITG's file, or its folder of files."""

    annotations: str | None
    """The annotation file whose rows ``doc_id`` counts: JSON list, JSON Lines or parquet. None: ``doc_id`` is the
    question's id."""
    id_field: str
    """The field of its rows that is the question's id here."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row per question; one whose ``doc_id`` is not a row of the annotations carries that fault."""
        ids = None if self.annotations is None else annotated_ids(local_path(self.annotations), self.id_field)
        in_folder = file.is_dir()
        return each_row(read_entries(file, OVERRIDE), lambda entry: self._row(entry, ids, in_folder))

    def _row(self, entry: Entry, ids: Sequence[str | None] | None, in_folder: bool) -> ForeignRow:
        row = entry.as_kind(_Row)
        if row.logits is not None and len(row.index) != len(row.logits):
            raise InputError(f"{entry.where}: {len(row.index)} index and {len(row.logits)} logits", "correct the row")
        in_order_of_time = row.logits is None and list(row.index) == sorted(row.index)
        return ForeignRow(
            where=entry.where,
            question_id=self._question(row, entry, ids, in_folder),
            moments=NativeFrames(tuple(row.index), whole_second_stride=False),
            scores=None if row.logits is None else tuple(row.logits),
            text=row.contexts,
            ranked=not in_order_of_time,
        )

    def _question(self, row: _Row, entry: Entry, ids: Sequence[str | None] | None, in_folder: bool) -> str:
        doc_id = entry.name if row.doc_id is None and in_folder else row.doc_id
        if doc_id is None:
            raise InputError(f"{entry.where}: there is no doc_id", "give every row the number of its annotation")
        if ids is None:
            return str(doc_id)
        number = int(doc_id) if re.fullmatch("[0-9]{1,9}", str(doc_id)) else -1
        question_id = ids[number] if 0 <= number < len(ids) else None
        if question_id is None:
            raise InputError(
                f"{entry.where}: doc_id {doc_id!r} is none of the {len(ids)} rows of {self.annotations}",
                "name the annotations that VideoITG was run over: sampler.format.annotations=...",
            )
        return question_id
