"""Archives as benchmarks are handed out: zip, tar, and tar in pieces, which is read without being joined first."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InputError

_PIECE = re.compile(r"(.+\.tar(?:\.gz)?)\.part[.-]\w+")


def unpack(files: Sequence[Path], target: Path) -> None:
    """Unpack the archives among ``files`` into ``target``; one that was unpacked before is passed over.

    Raises:
        InputError: an archive is damaged, or ``target`` cannot be written.
    """
    for archive, pieces in _archives(files).items():
        size = str(sum(piece.stat().st_size for piece in pieces))
        done = archive.with_name(f".{archive.name}.unpacked")
        if done.is_file() and done.read_text() == size:
            continue
        target.mkdir(parents=True, exist_ok=True)
        try:
            _unpack(pieces, target)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise InputError(
                f"{archive} cannot be unpacked into {target}: {error}",
                "if the disk has room, delete the archive and run the command again",
            ) from error
        done.write_text(size)


def _archives(files: Sequence[Path]) -> dict[Path, list[Path]]:
    """The pieces of each archive, in order; whole ones are of one piece."""
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
            archive.extractall(target)
        return
    # A stream, so that a hundred gigabytes in pieces need not be written once more as a whole. The filter keeps
    # members inside the target.
    with _Joined(pieces) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        tar.extractall(target, filter="data")


class _Joined(io.RawIOBase):
    """Several files read as if they were one."""

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
