"""Append-only JSON lines that survive an interrupt at any byte.

A row is on the disk before the next question starts. A run that is started again reads what stands, drops a last line
that was cut in the middle, and goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic

from filelock import FileLock, Timeout

from pipeline.artefacts.rows import KeyedRow, Row, from_line, to_line
from pipeline.errors import BusyError, InputError, StorageError


def read_rows(kind: type[Row], path: Path) -> list[Row]:
    """All rows of a file, the last of each question, in the order in which questions first appear.

    A last line without its newline was cut by an interrupt and is passed over.

    Raises:
        InputError: no such file, or a line is not a row of this kind.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file", "check the path; `gens sample` writes relevance.jsonl and selections.jsonl"
        )
    rows: dict[str, Row] = {}
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if line.endswith(b"\n") and line.strip():
            row = from_line(kind, line, f"{path}:{number}")
            rows[row.question.id] = row
    return list(rows.values())


class Journal(Generic[KeyedRow]):
    """One artefact file of a run folder, written row by row."""

    def __init__(self, kind: type[KeyedRow], path: Path) -> None:
        self.path = path
        self._rows: dict[str, KeyedRow] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._rows = {row.question.id: row for row in read_rows(kind, path)}
                _drop_cut_line(path)
            self._file = path.open("ab")
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written: {error.strerror}", "choose another place: paths.runs=..."
            ) from error

    def find(self, question_id: str, key: str) -> KeyedRow | None:
        """The finished row of this question made under this very key, if there is one."""
        row = self._rows.get(question_id)
        return row if row is not None and row.key == key else None

    def append(self, row: KeyedRow) -> None:
        """Write the row and wait until the disk has it."""
        self._rows[row.question.id] = row
        try:
            self._file.write(to_line(row))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written: {error.strerror}",
                "free some space or choose another place (paths.runs=...); the same command goes on from here",
            ) from error

    def close(self) -> None:
        """Close the file; its rows stay readable."""
        self._file.close()

    def __enter__(self) -> Journal[KeyedRow]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _drop_cut_line(path: Path) -> None:
    text = path.read_bytes()
    if text and not text.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process; the system lets go of it when the process ends, however it ends.

    Raises:
        BusyError: another process is at work in it.
        StorageError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"another process is at work in {folder}", "wait for it, or write elsewhere: paths.runs=..."
        ) from error
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written: {error.strerror}", "choose another place: paths.runs=..."
        ) from error
    try:
        yield
    finally:
        lock.release()
