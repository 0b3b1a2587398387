"""Unpacks benchmarks' archives: zip, tar, and tar in pieces, which are read without being joined first.

An archive is refused by name if it is damaged, needs a password, has an entry outside the target folder, or does not
fit the disk once unpacked. Files that were unpacked before the damage are kept if each has its own checksum or none
(zip, tar); the file at which it ended is removed, since half a video must not pass for a whole one.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.artefacts.writing import FREE_SPACE, full_disk_error, unwritable, write_whole, writing
from pipeline.errors import InputError, StorageError

ELSEWHERE = "paths.data=..."
_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20
_PIECE = re.compile(r"(.+\.tar(?:\.gz)?)\.part[.-]\w+")
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError),
    *(ValueError, KeyError, OverflowError),  # invalid numbers and names in headers
    *(RuntimeError, NotImplementedError),  # a password is wanted, or the compression is unknown
)


def unpack(files: Sequence[Path], target: Path) -> None:
    """Unpack the archives among ``files`` into ``target``; archives that were unpacked before are skipped.

    Raises:
        InputError: an archive cannot be unpacked; the message names it.
        StorageError: ``target`` cannot be written, or its disk is full.
    """
    for archive, pieces in _archives(files).items():
        size = str(sum(piece.stat().st_size for piece in pieces))
        done = archive.with_name(f".{archive.name}.unpacked")
        if done.is_file() and done.read_text() == size:
            continue
        with writing(target, ELSEWHERE):
            target.mkdir(parents=True, exist_ok=True)
        try:
            _unpack(pieces, target)
        except _DAMAGE as error:
            raise InputError(
                f"{archive} cannot be unpacked into {target}: {str(error) or type(error).__name__}",
                "if the disk has room, delete the archive and run the command again",
            ) from error
        write_whole(size.encode(), done, ELSEWHERE)


def _archives(files: Sequence[Path]) -> dict[Path, list[Path]]:
    """The pieces of each archive, in order; a whole archive is one piece."""
    archives: dict[Path, list[Path]] = {}
    for file in sorted(files):
        piece = _PIECE.fullmatch(file.name)
        if piece:
            archives.setdefault(file.with_name(piece.group(1)), []).append(file)
        elif file.suffix in (".zip", ".tar") or file.name.endswith(".tar.gz"):
            archives[file] = [file]
    return archives


def _unpack(pieces: Sequence[Path], target: Path) -> None:
    if pieces[0].suffix == ".zip":
        with zipfile.ZipFile(pieces[0]) as archive:
            entries = archive.infolist()
            _check_room(sum(entry.file_size for entry in entries), pieces[0], target)
            for entry in entries:
                with _whole(_inside(entry.filename, target)):
                    archive.extract(entry, target)
        return
    # Streamed, so that a hundred gigabytes in pieces need not be written a second time.
    with _Joined(pieces) as stream:
        if _starts_with(pieces[0], _GZIP):
            _unpack_gzip(stream, target)
        else:
            for _ in _members(stream, "r|*", target):
                pass


def _unpack_gzip(stream: io.RawIOBase, target: Path) -> None:
    """Unpack a gzip stream. Its checksum at the end covers everything, so all files are removed if it does not
    match.
    """
    written: list[Path] = []
    try:
        with gzip.GzipFile(fileobj=stream) as plain:  # tarfile's own stream reader ignores the checksum
            written.extend(_members(plain, "r|", target))
            while plain.read(_BLOCK):
                pass
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _members(stream: Any, mode: Any, target: Path) -> Iterator[Path]:
    """Unpack member by member and yield the files. The filter refuses devices and links that lead outside."""
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for member in tar:
            path = _inside(member.name, target)
            _check_room(member.size, path, target)
            with _whole(path):
                tar.extract(member, target, filter="data")
            if member.isfile():
                yield path


def _starts_with(file: Path, magic: bytes) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(magic)) == magic


def _inside(name: str, target: Path) -> Path:
    """The path of an entry.

    Raises:
        ValueError: it is outside the target. (Python's zipfile would write it inside, under another name.)
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"its entry {name!r} would be outside of the folder")
    return target / path


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Remove the file that is being written if it cannot be finished.

    Raises:
        StorageError: the disk is full.
    """
    try:
        yield
    except BaseException as error:
        if path.is_file():
            path.unlink()
        full = full_disk_error(error)
        if full is not None:
            raise unwritable(path, full, ELSEWHERE) from error
        raise


def _check_room(size: int, what: Path, target: Path) -> None:
    """Raise StorageError where the disk of ``target`` cannot hold what is unpacked of ``what``."""
    free = shutil.disk_usage(target).free
    if size > free:
        raise StorageError(
            f"{what} cannot be unpacked into {target}: {size / 1e9:.1f} GB are needed, and {free / 1e9:.1f} GB are "
            "free",
            f"{FREE_SPACE}; or choose another place: {ELSEWHERE}",
        )


class _Joined(io.RawIOBase):
    """Several files, read as one."""

    def __init__(self, pieces: Sequence[Path]) -> None:
        self._left = list(pieces)
        self._open: io.BufferedReader | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, fewer only at the end of the last piece: tarfile takes a short read for the end."""
        parts: list[bytes] = []
        while size != 0:
            if self._open is None:
                if not self._left:
                    break
                self._open = self._left.pop(0).open("rb")
            part = self._open.read(size)
            if not part:
                self._open.close()
                self._open = None
                continue
            parts.append(part)
            size = size - len(part) if size > 0 else size
        return b"".join(parts)

    def close(self) -> None:
        """Close the piece that is being read."""
        if self._open is not None:
            self._open.close()
        super().close()
