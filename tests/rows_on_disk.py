"""Rows of a run folder as its readers see them: joined with the questions beside them."""

from __future__ import annotations

from pathlib import Path

from pipeline.artefacts.folder import sibling_questions
from pipeline.artefacts.journal import read_rows
from pipeline.artefacts.rows import Row


def rows_of(kind: type[Row], path: Path) -> list[Row]:
    return read_rows(kind, path, sibling_questions(path))
