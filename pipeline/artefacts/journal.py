"""Append-only JSON lines that survive an interrupt at any byte.

A row is on the disk before the next question starts. A run that is started again reads the rows that are there, drops a
last line that was cut in the middle, and goes on.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, cast

from filelock import FileLock, Timeout
from pydantic_core import from_json

from pipeline.artefacts.index import Index, Place, read_index, write_index
from pipeline.artefacts.rows import (
    AnyRow,
    KeyedRow,
    Row,
    SelectionRow,
    from_line,
    to_line,
    unreadable_selection,
    without_numbers,
)
from pipeline.artefacts.writing import writing
from pipeline.domain import Question
from pipeline.errors import BusyError, InputError

LOCK_FILE = ".lock"
_UNINDEXED = 64 << 20
"""Bytes of rows that are not in the index before it is written again."""
T = TypeVar("T")
Read: TypeAlias = Callable[[bytes, str, list[InputError]], T | None]
_PATIENCE = 0.5
"""Seconds to wait for a lock: longer than :func:`is_held` takes, which is no reason to refuse a command."""
_ELSEWHERE = "paths.runs=..."
_BLOCK = 1 << 18
"""Bytes that are read at once: lines with scores are longer than Python's own blocks."""


def read_rows(kind: type[Row], path: Path, asked: Mapping[str, Question]) -> list[Row]:
    """All rows of a file, the last of each question, in the order in which questions first appear.

    Skips a last line that is not complete JSON, which an interrupt has cut, and rows whose question is not among
    ``asked`` or asks something else there (see :func:`pipeline.artefacts.rows.from_line`). A line of a selection file,
    which any program may have written, costs its own question where it cannot be read.

    Raises:
        InputError: no such file, a line is not a row of this kind, or no line of a selection file can be read.
    """
    return list({row.question.id: row for _, _, _, row in rows_of(kind, path, asked)}.values())


def rows_of(kind: type[Row], path: Path, asked: Mapping[str, Question]) -> Iterator[tuple[int, int, int, Row]]:
    """Number, offset, length and row of each line that :func:`read_rows` counts; the last of a question is the one.

    Raises:
        InputError: as ``read_rows``.
    """
    return each_line(path, lambda line, where, faults: row_at(kind, line, where, asked, faults))


def each_line(path: Path, read: Read[T]) -> Iterator[tuple[int, int, int, T]]:
    """Number, offset, length and content of each line, as ``read`` gives it; lines of which it gives None are left out.

    ``read`` takes the line, its file and number for an error, and a list for the errors of lines that are passed over.

    Raises:
        InputError: no such file, none of its lines can be read, or as ``read``.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file", "check the path; `gens sample` writes relevance.jsonl and selections.jsonl"
        )
    faults: list[InputError] = []
    count = 0
    for number, offset, line in _lines(path, _is_whole):
        count += 1
        content = read(line, f"{path}:{number}", faults)
        if content is not None:
            yield number, offset, len(line), content
    if faults and len(faults) == count:
        raise faults[0]


def row_at(
    kind: type[Row], line: bytes, where: str, asked: Mapping[str, Question], faults: list[InputError] | None = None
) -> Row | None:
    """The row of one line; None if its question is not among ``asked``.

    Args:
        kind: what the line must be.
        line: with or without its newline.
        where: file and line, for the error.
        asked: the current questions by id.
        faults: takes the error of a line of a selection file that cannot be read, and whose row is that failure.

    Raises:
        InputError: the line is not a row of this kind.
    """
    row: Any
    try:
        row = from_line(kind, line, where, asked)
    except InputError as error:
        if kind is not SelectionRow:
            raise
        row = unreadable_selection(line, where, error)
        if faults is not None:
            faults.append(error.kept())
    return cast("Row | None", row)


def _lines(path: Path, is_whole: Callable[[bytes], bool] = lambda _: False) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset and bytes of each line that is not blank; a last one without newline only if it ``is_whole``."""
    offset = 0
    with path.open("rb", buffering=_BLOCK) as file:
        for number, line in enumerate(file, start=1):
            if line.strip() and (line.endswith(b"\n") or is_whole(line)):
                yield number, offset, line
            offset += len(line)


def _is_whole(line: bytes) -> bool:
    """Whether the line is a complete JSON value, as at the end of a file that another program wrote."""
    try:
        from_json(line)
    except ValueError:
        return False
    return True


class Journal(Generic[KeyedRow]):
    """One artefact file of a run folder, written row by row. Rows stay on the disk; only their offsets are in memory.

    A large file has an index beside it (:mod:`pipeline.artefacts.index`), so that it is not read when it is opened.

    Attributes:
        outdated: number of rows of an earlier schema version. They stay in the file and are computed again.
    """

    def __init__(self, kind: type[KeyedRow], path: Path) -> None:
        self.path = path
        self.outdated = 0
        self._kind: type[KeyedRow] = kind
        self._places: dict[str, Place] = {}
        self._lines = self._crc = self._indexed = 0
        with writing(path, _ELSEWHERE):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._index()
                _drop_cut_line(path)
            # Unbuffered, so that closing has nothing to write and cannot fail.
            self._file = path.open("ab", buffering=0)
            self._end = path.stat().st_size
        if self._end - self._indexed >= _UNINDEXED:
            self._write_index()

    def find(self, question: Question, key: str) -> KeyedRow | None:
        """The row of this question and key, with the question as given; None if there is none."""
        place = self._places.get(question.id)
        if place is None or place.key != key:
            return None
        with self.path.open("rb") as file:
            file.seek(place.offset)
            line = file.read(place.length)
        return from_line(self._kind, line, f"{self.path}, byte {place.offset}", {question.id: question})

    def append(self, row: KeyedRow) -> None:
        """Write the row and wait until the disk has it. A row that does not fit is removed completely.

        Raises:
            StorageError: it cannot be written.
        """
        line = to_line(row)
        rest = memoryview(line)
        with writing(self.path, _ELSEWHERE):
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except OSError:
                with suppress(OSError):
                    self._file.truncate(self._end)
                raise
        self._places[row.question.id] = Place(row.key, self._end, len(line))
        self._end += len(line)
        self._lines += 1
        self._crc = zlib.crc32(line, self._crc)
        if self._end - self._indexed >= _UNINDEXED:
            self._write_index()

    def keep(self, row: KeyedRow) -> bool:
        """Append the row unless the file holds the same one already. Returns whether it does."""
        if self.find(row.question, row.key) == row:
            return True
        self.append(row)
        return False

    def close(self) -> None:
        """Close the file; its rows stay readable."""
        if not self._file.closed and self._end > self._indexed:
            self._write_index()
        self._file.close()

    def __enter__(self) -> Journal[KeyedRow]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _index(self) -> None:
        current = _schema(self._kind)
        known = read_index(self.path, current)
        if known is not None:
            self._places, self.outdated = dict(known.places), known.outdated
            self._indexed, self._lines, self._crc = known.size, known.lines, known.crc
        offset = self._indexed
        with self.path.open("rb", buffering=_BLOCK) as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._lines += 1
                self._crc = zlib.crc32(line, self._crc)
                if line.strip():
                    self._add(line, offset, current)
                offset += len(line)

    def _add(self, line: bytes, offset: int, current: str) -> None:
        where = f"{self.path}:{self._lines}"
        try:
            content = from_json(without_numbers(line))
            schema, key, question_id = content["schema"], content["key"], _question_id(content)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{where}: no row that this program wrote: {error}",
                "move the file away, or choose another place: paths.runs=...",
            ) from error
        if schema == current:
            self._places[question_id] = Place(key, offset, len(line))
        else:
            from_line(self._kind, line, where, {})  # refuses a version that is not known
            self.outdated += 1

    def _write_index(self) -> None:
        written = os.fstat(self._file.fileno()).st_mtime_ns
        kind = _schema(self._kind)
        write_index(Index(kind, self._end, written, self._crc, self._lines, self.outdated, self._places), self.path)
        self._indexed = self._end


def _schema(kind: type[AnyRow]) -> str:
    return str(kind.schema)


def _question_id(content: Any) -> str:
    for part in ("relevance", "selection", "answer", "grade"):
        if part in content:
            return str(content[part]["question_id"])
    raise KeyError("question_id")


def _drop_cut_line(path: Path) -> None:
    """Cut off a last line without its newline, reading no more than that line."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep:
            start = max(0, keep - 65536)
            file.seek(start)
            block = file.read(keep - start)
            if keep == end and block.endswith(b"\n"):
                return
            newline = block.rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            file.truncate(keep)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process; the system lets go of it when the process ends, however it ends.

    Raises:
        BusyError: another process is using it.
        StorageError: it cannot be written.
    """
    path = folder / LOCK_FILE
    with writing(folder, _ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
        # Made here with the permissions of the folder's other files, so that whoever shares it can take the lock too.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
        # Of the process, not of the thread: the folder of a session may be closed by another thread.
        mode = stat.S_IMODE(path.stat().st_mode)
        lock = FileLock(path, timeout=_PATIENCE, mode=mode, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise BusyError(
                f"another process is using {folder}", "wait for it, or write elsewhere: paths.runs=..."
            ) from error
    try:
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process holds the run folder, as far as the system knows. Waits for nothing and changes nothing.

    On a file system that shares no locks between machines, a process of another machine is not seen.
    """
    import fcntl

    try:
        with (folder / LOCK_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no such file, not ours to read, or no locks there
    return False
