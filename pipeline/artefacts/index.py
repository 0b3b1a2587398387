"""An index beside a journal, so that a large one opens without being read.

``relevance.jsonl.index`` holds the places of the rows in the first ``size`` bytes of ``relevance.jsonl``, and what
tells whether these are still the same bytes: the time of the last change, and else their CRC-32. Rows that were
appended after it was written are read from there on. It is replaced as a whole, so that a kill leaves the one before;
one that does not fit is made anew, and one that cannot be written is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from pipeline.artefacts.writing import write_whole
from pipeline.errors import StorageError

INDEX_SUFFIX = ".index"
SMALLEST = 1 << 20
"""Bytes of a journal that is worth an index."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Place:
    """The place of a row in its file."""

    key: str
    offset: NonNegativeInt
    length: NonNegativeInt


@dataclass(frozen=True)
class Index:
    """The rows in the first bytes of a journal."""

    kind: str
    """Schema of the rows that count."""
    size: NonNegativeInt
    """Bytes of whole lines that it is about."""
    modified: int
    """When the journal was last changed, in nanoseconds as the file system says it."""
    crc: NonNegativeInt
    """CRC-32 of these bytes."""
    lines: NonNegativeInt
    outdated: NonNegativeInt
    """Rows of an earlier schema version."""
    places: Mapping[str, Place]
    """By question, of the last row of each."""
    schema: Literal["gens/index/1"] = "gens/index/1"


_ADAPTER: TypeAdapter[Index] = TypeAdapter(Index)


def _beside(journal: Path) -> Path:
    return journal.with_name(journal.name + INDEX_SUFFIX)


def read_index(journal: Path, kind: str) -> Index | None:
    """The index beside a journal; None if there is none that fits it."""
    try:
        index = _ADAPTER.validate_json(_beside(journal).read_bytes())
        told = journal.stat()
        if index.kind != kind or told.st_size < index.size:
            return None
        is_same = told.st_size == index.size and told.st_mtime_ns == index.modified
        if not is_same and _crc(journal, index.size) != index.crc:
            return None
    except (OSError, ValidationError):
        return None
    ends = (place.offset + place.length for place in index.places.values())
    return index if max(ends, default=0) <= index.size else None


def write_index(index: Index, journal: Path) -> None:
    """Write the index beside its journal, unless the journal is small or the file cannot be written."""
    if index.size >= SMALLEST:
        with suppress(StorageError):
            write_whole(_ADAPTER.dump_json(index), _beside(journal), "paths.runs=...")


def _crc(journal: Path, size: int) -> int:
    """The checksum of the first ``size`` bytes."""
    crc, left = 0, size
    with journal.open("rb") as file:
        while left and (block := file.read(min(left, _BLOCK))):
            crc = zlib.crc32(block, crc)
            left -= len(block)
    return crc
