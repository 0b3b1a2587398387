"""The ids of an annotation file in its order, for formats that number the rows of that file."""

from __future__ import annotations

from pathlib import Path

from pipeline.artefacts.entries import read_entries
from pipeline.errors import InputError


def annotated_ids(file: Path, id_field: str) -> list[str | None]:
    """The field ``id_field`` of every row of a JSON list, of JSON Lines or of parquet; None for a damaged line.

    Raises:
        InputError: no such file, or a row without that field.
    """
    return [
        None if entry.fault else _id(entry.read, id_field, entry.where)
        for entry in read_entries(file, "sampler.format.annotations")
    ]


def _id(row: object, field: str, where: str) -> str:
    value = row.get(field) if isinstance(row, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        known = ", ".join(map(str, row)) if isinstance(row, dict) else "no fields"
        raise InputError(
            f"{where}: there is no id in the field {field!r}; there are {known}",
            "name the field of the question's id: sampler.format.id_field=...",
        )
    return str(value)
