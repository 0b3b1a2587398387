"""The selected frames of AKS (Adaptive Keyframe Sampling, arXiv 2502.21271; repository ncTimTang/AKS).

``selected_frames.json`` is a list of lists of native frame numbers and nothing else: its rows belong to the rows of the
benchmark's annotation file by their order. That file is therefore needed, and must be the one that AKS was run over.
The numbers are multiples of int(native frames a second), since AKS scores one frame a second, which reveals a video of
another rate. (Joined by position alone, such files were scored with the wrong frames: AKS issues 4 and 31.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.entries import Entry, checked, read_json
from pipeline.errors import InputError
from pipeline.foreign.annotated import annotated_ids
from pipeline.foreign.moments import FrameNumber, NativeFrames, Seconds
from pipeline.foreign.rows import OVERRIDE, ForeignRow
from pipeline.paths import local_path


@dataclass(frozen=True)
class _Row:
    frames: list[FrameNumber]


@dataclass(frozen=True)
class Aks:
    """Reads AKS's ``selected_frames.json``."""

    annotations: str
    """The annotation file that AKS was run over, a JSON list, JSON Lines or parquet, in the same order."""
    id_field: str
    """The field of its rows that is the question's id here."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row an annotation; one that is not a list of frame numbers carries that fault.

        Raises:
            InputError: there are more or fewer rows than annotations.
        """
        ids = annotated_ids(local_path(self.annotations), self.id_field)
        lists = read_json(file, OVERRIDE)
        if not isinstance(lists, list):
            raise InputError(f"{file} is not a list of lists", "name AKS's selected_frames.json: sampler.path=...")
        if len(lists) != len(ids):
            raise InputError(
                f"{file} has {len(lists)} rows and {self.annotations} has {len(ids)}: they do not belong together",
                "name the annotation file that AKS was run over: sampler.format.annotations=...",
            )
        return [
            _row(Entry(f"{file}: entry {number}", f"entry {number}", frames), question_id)
            for number, (question_id, frames) in enumerate(zip(ids, lists, strict=True), start=1)
        ]


def _row(entry: Entry, question_id: str | None) -> ForeignRow:
    try:
        numbers = checked(_Row, {"frames": entry.read}, entry.where).frames
    except InputError as error:
        return ForeignRow(entry.where, question_id, Seconds(()), fault=error.kept())
    return ForeignRow(entry.where, question_id, NativeFrames(tuple(numbers), whole_second_stride=True))
