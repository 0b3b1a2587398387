"""The scored frames of VideoITG (arXiv 2507.13353), as its evaluation in lmms-eval writes them.

JSON Lines::

    {"doc_id": 3, "video_path": "v.mp4", "contexts": "...", "index": [17, 250], "logits": [2.1, 0.4]}

``index`` counts among frames spread evenly over the video, in order of score and not of time. ``doc_id`` is the number
of the annotation row from 0, or the question's own id where no annotation file is named; ``contexts`` holds the
question, which is checked. A run that was started again writes some rows twice: equal ones are one row, others an
error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.entries import checked, read_entries
from pipeline.errors import InputError
from pipeline.foreign import ForeignRow
from pipeline.foreign.annotated import annotated_ids
from pipeline.foreign.moments import UniformFrames
from pipeline.paths import local_path
from pipeline.selection.uniform import UniformVariant


@dataclass(frozen=True)
class _Entry:
    doc_id: str | int
    index: list[int]
    logits: list[float]
    contexts: str | None = None


@dataclass(frozen=True)
class VideoItg:
    """Reads VideoITG's file."""

    annotations: str | None
    """The annotation file whose rows ``doc_id`` counts, a JSON list or JSON Lines; none: ``doc_id`` is the id."""
    id_field: str
    """The field of its rows that is the question's id here."""
    frames: int
    """How many frames were scored."""
    spread: UniformVariant
    """How they were spread over the video."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row a question.

        Raises:
            InputError: a doc_id is no row of the annotations, or its rows differ.
        """
        ids = None if self.annotations is None else annotated_ids(local_path(self.annotations), self.id_field)
        entries = read_entries(file, "sampler.path")
        rows = [self._row(checked(_Entry, value, where), ids, where) for where, value in entries]
        return list({(row.question_id, row.moments, row.scores): row for row in reversed(rows)}.values())[::-1]

    def _row(self, entry: _Entry, ids: list[str] | None, where: str) -> ForeignRow:
        if len(entry.index) != len(entry.logits):
            raise InputError(f"{where}: {len(entry.index)} index and {len(entry.logits)} logits", "mend the row")
        question_id = str(entry.doc_id)
        if ids is not None:
            if not isinstance(entry.doc_id, int) or not 0 <= entry.doc_id < len(ids):
                raise InputError(
                    f"{where}: doc_id {entry.doc_id!r} is none of the {len(ids)} rows of {self.annotations}",
                    "name the annotations that VideoITG was run over: sampler.format.annotations=...",
                )
            question_id = ids[entry.doc_id]
        moments = UniformFrames(tuple(entry.index), self.frames, self.spread)
        return ForeignRow(where, question_id, moments, tuple(entry.logits), entry.contexts)
