"""The plainest form: one JSON object, ``{question id: [second, ...]}``, both ways."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts.entries import checked, read_text
from pipeline.artefacts.rows import SelectionRow
from pipeline.errors import InputError
from pipeline.foreign import ForeignRow
from pipeline.foreign.moments import Seconds


@dataclass(frozen=True)
class _Listed:
    seconds: list[float]


@dataclass(frozen=True)
class SecondsList:
    """Reads the plain form."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """One row a question."""
        pairs = _pairs(read_text(file, "sampler.path"), file)
        return [_row(question_id, value, f"{file}: {question_id!r}") for question_id, value in pairs]


@dataclass(frozen=True)
class SecondsForm:
    """Writes the plain form. Scores and sources do not survive in it."""

    @property
    def suffix(self) -> str:
        """One JSON object."""
        return ".json"

    def text(self, rows: Sequence[SelectionRow]) -> str:
        """One line a question, for people to look at."""
        lines = [
            f"{json.dumps(row.question.id, ensure_ascii=False)}: {[frame.time for frame in row.selection.frames]}"
            for row in rows
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def _row(question_id: str, value: Any, where: str) -> ForeignRow:
    listed = checked(_Listed, {"seconds": value}, where)
    return ForeignRow(where, question_id, Seconds(tuple(listed.seconds)))


def _pairs(text: str, file: Path) -> list[tuple[str, Any]]:
    """Keys and values; a key that stands twice is two pairs, of which a plain reader would lose one."""
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: not JSON: {error.msg} at line {error.lineno}", "mend the file") from error
    if not text.lstrip().startswith("{"):
        raise InputError(f"{file} is not a JSON object", 'it must look like {"question id": [12.0, 40.5], ...}')
    return [(str(key), value) for key, value in pairs]
