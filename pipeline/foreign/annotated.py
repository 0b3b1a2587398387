"""The ids of an annotation file, in its order: what files that count rows are joined through."""

from __future__ import annotations

from pathlib import Path

from pipeline.artefacts.entries import read_entries
from pipeline.errors import InputError


def annotated_ids(file: Path, id_field: str) -> list[str]:
    """The field ``id_field`` of every row of a JSON list or of JSON Lines.

    Raises:
        InputError: no such file, or a row without that field.
    """
    ids = []
    for where, row in read_entries(file, "sampler.format.annotations"):
        value = row.get(id_field) if isinstance(row, dict) else None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(
                f"{where}: there is no id in the field {id_field!r}",
                "name the field of the question's id: sampler.format.id_field=...",
            )
        ids.append(str(value))
    return ids
