"""The plainest format, read and written: one JSON object, ``{question id: [second, ...]}``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts.entries import Entry, checked, read_text
from pipeline.artefacts.rows import SelectionRow
from pipeline.errors import InputError
from pipeline.foreign.moments import Second, Seconds
from pipeline.foreign.rows import OVERRIDE, ForeignRow
from pipeline.wellformed import parsed, well_formed


@dataclass(frozen=True)
class _Listed:
    seconds: list[Second]


@dataclass(frozen=True)
class SecondsList:
    """Reads the plain form."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row per question."""
        pairs = _pairs(read_text(file, OVERRIDE, "surrogateescape"), file)
        return [_row(Entry(f"{file}: {question_id!r}", question_id, value)) for question_id, value in pairs]


@dataclass(frozen=True)
class SecondsForm:
    """Writes the plain format, which has no scores and no sources."""

    @property
    def suffix(self) -> str:
        """One JSON object."""
        return ".json"

    def text(self, rows: Sequence[SelectionRow]) -> str:
        """One line per question, so that people can read it."""
        lines = [
            f"{json.dumps(row.question.id, ensure_ascii=False)}: {[frame.time for frame in row.selection.frames]}"
            for row in rows
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def _row(entry: Entry) -> ForeignRow:
    try:
        listed = checked(_Listed, {"seconds": entry.read}, entry.where)
    except InputError as error:
        return ForeignRow(entry.where, entry.name, Seconds(()), fault=error.kept())
    return ForeignRow(entry.where, entry.name, Seconds(tuple(listed.seconds)))


def _pairs(text: str, file: Path) -> list[tuple[str, Any]]:
    """Keys and values. A repeated key gives two pairs, of which a dict would lose one."""
    try:
        pairs = parsed(text, list)
    except ValueError as error:
        raise InputError(f"{file}: {error}", "repair the file") from error
    if not text.lstrip().startswith("{"):
        raise InputError(f"{file} is not a JSON object", 'it must look like {"question id": [12.0, 40.5], ...}')
    return [(well_formed(key), value) for key, value in pairs]
