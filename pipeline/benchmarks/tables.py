"""The rows of an annotation file, whichever of the usual forms it has: JSON list, JSON Lines or parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.artefacts.entries import read_entries, read_json, read_text
from pipeline.errors import InputError, MissingExtraError

_OVERRIDE = "benchmark.path"


def entries_of(file: Path) -> list[tuple[str, Any]]:
    """The rows, each with its place for errors.

    Raises:
        InputError: the file cannot be read, is of none of the forms, or holds no row.
        MissingExtraError: it is parquet, and pyarrow is not installed.
    """
    if file.suffix == ".parquet":
        return _parquet(file)
    # A list that is broken somewhere is told by that place, and not as JSON Lines that it is not.
    if file.suffix == ".json" and read_text(file, _OVERRIDE).lstrip().startswith("["):
        read_json(file, _OVERRIDE)
    return read_entries(file, _OVERRIDE)


def _parquet(file: Path) -> list[tuple[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(
            f"{file} is parquet, and pyarrow, which reads it, is not installed", "pip install 'gens-videoqa[parquet]'"
        ) from error
    try:
        rows = pq.read_table(file).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{file} cannot be read as parquet: {error}", f"fetch the file again, or name another: {_OVERRIDE}=..."
        ) from error
    if not rows:
        raise InputError(f"{file} is empty", f"it needs at least one row: {_OVERRIDE}=...")
    return [(f"{file}: row {number}", row) for number, row in enumerate(rows, start=1)]
