"""A bounded store of prepared candidates on disk, so that samplers with the same candidates decode a video once.

An entry is one file: the pixels of all pictures, a table of them, and the length and checksum of that table. It is
written under a temporary name and renamed when its last picture is there, so that it is whole or absent. The table has
a checksum of each picture: one that is damaged is decoded again, with all that follow it.

Entries are read and not mapped: reading a file that is damaged, or gone from a network file system, is an error that
can be caught, and a mapping of it ends the process.
"""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import secrets
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.domain import PreparedPicture, PreparedPictures
from pipeline.execution.crashes import decoder_versions
from pipeline.families.seam import FrameShape, PreparedFrame
from pipeline.identity import FRAMES_VERSION, digest, source_of
from pipeline.paths import local_path
from pipeline.terminal import remark
from pipeline.versions import packages
from pipeline.wellformed import loaded

_FORM = 1
"""Of the files; part of every key."""
_SUFFIX, _UNFINISHED = ".pictures", ".part"
_END = struct.Struct("<QI8s")
_MARK = b"pictures"
_ABANDONED = 3600.0
"""Seconds without a write after which an unfinished file belongs to a process that is gone."""
_SPARE_BYTES = 2_000_000_000
"""Of the disk, left to what a run has to write."""
_BY_VERSION = frozenset({"numpy", "PIL", "torch", "transformers"})
"""Packages that a key tells by their version and not by their source."""


@dataclass(frozen=True)
class _Row:
    """A picture in the table of an entry."""

    time: float
    index: int
    dtype: str
    sides: list[int]
    shape: dict[str, int] | None
    """Of a :class:`PreparedFrame`; None for a plain array."""
    checksum: int
    walked: int | None
    """As of :class:`PreparedPicture`."""

    @property
    def size(self) -> int:
        return int(np.dtype(self.dtype).itemsize * np.prod(self.sides, dtype=np.int64))


class CandidateStore:
    """Prepared candidates of videos, below the cache folder. Several processes may use it at once.

    Args:
        cache: the cache folder.
        most_bytes: of all entries together. Videos that were used least recently are removed first.
    """

    def __init__(self, cache: Path, most_bytes: int) -> None:
        self.folder = local_path(cache) / "candidates"
        self._most_bytes = most_bytes
        self._is_off = False

    def key(self, fingerprint: str, backend: str, indices: Sequence[int], prepare: Callable[[Any], Any]) -> str | None:
        """The name of an entry; None where what is prepared cannot be told from its code and its settings.

        Args:
            fingerprint: of the file.
            backend: that decodes it.
            indices: native ones, ascending.
            prepare: makes a picture's pixels ready for a model.
        """
        content = io.BytesIO()
        pickler = _NotingPickler(content, 5)
        try:
            pickler.dump(prepare)
        except (pickle.PicklingError, TypeError, AttributeError, ValueError):
            return None
        sources = {module.partition(".")[0]: source_of(kind) for module, kind in sorted(pickler.kinds.items())}
        if "__main__" in sources or None in sources.values():
            return None
        made_of = {
            "form": _FORM,
            "frames": FRAMES_VERSION,
            "decoder": [backend, *decoder_versions(backend)],
            "versions": packages(),
            "indices": [int(index) for index in indices],
            "prepare": content.getvalue().hex(),
            "sources": sources,
        }
        return f"{digest({'video': fingerprint})}-{digest(made_of)}"

    def find(
        self, key: str, indices: Sequence[int], decoded: Callable[[Sequence[int]], PreparedPictures]
    ) -> PreparedPictures | None:
        """The pictures stored under ``key``; None if there are none.

        Args:
            key: of the entry.
            indices: of the pictures.
            decoded: decodes those of given indices, where a stored one is damaged.
        """
        path = self.folder / f"{key}{_SUFFIX}"
        try:
            file = path.open("rb")
        except OSError:
            return None
        try:
            rows = _table(file)
        except Exception:  # a damaged table may raise anything
            rows = []
        if [row.index for row in rows] != list(indices):
            file.close()
            return None
        with suppress(OSError):
            os.utime(path)
        return StoredPictures(path, file, rows, decoded)

    def keeping(self, pictures: PreparedPictures, key: str, count: int) -> PreparedPictures:
        """The pictures themselves, which are stored under ``key`` while they are drawn.

        Args:
            pictures: to be stored.
            key: of the entry.
            count: how many they are. Less are not stored.
        """
        return pictures if self._is_off else KeptPictures(pictures, Entry(self, self.folder / f"{key}{_SUFFIX}", count))

    def has_room(self, size: int, own: Path | None = None) -> bool:
        """Whether an entry of so many bytes may be stored; older ones are removed for it.

        Args:
            size: of the entry.
            own: the unfinished file of the entry, which counts by ``size``.

        Raises:
            OSError: the folder cannot be read.
        """
        if size > self._most_bytes:
            return False
        videos: dict[str, list[tuple[float, int, Path]]] = {}
        total = size
        for file in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # another process has removed it
                stat, path = file.stat(), Path(file.path)
                if path == own:
                    continue
                if path.suffix == _UNFINISHED and time.time() - stat.st_mtime > _ABANDONED:
                    path.unlink()
                    continue
                total += stat.st_size
                if path.suffix == _SUFFIX:
                    video = path.name.partition("-")[0]
                    videos.setdefault(video, []).append((stat.st_mtime, stat.st_size, path))
        for files in sorted(videos.values(), key=max):
            if total <= self._most_bytes:
                break
            for _, length, path in files:
                path.unlink(missing_ok=True)
                total -= length
        return total <= self._most_bytes

    def give_up(self, error: OSError) -> None:
        """Store no more, and say so once. The run goes on."""
        if not self._is_off:
            self._is_off = True
            remark(f"prepared candidates are not stored in {self.folder}: {error.strerror or error}")


class Entry:
    """A file that is written picture by picture.

    Args:
        store: that it belongs to.
        path: of the finished file.
        count: of its pictures.
    """

    def __init__(self, store: CandidateStore, path: Path, count: int) -> None:
        self._store = store
        self._path = path
        self._count = count
        self._rows: list[_Row] = []
        self._size = 0
        self._part: Path | None = None
        self._file: Any = None
        self._is_over = False

    def add(self, picture: PreparedPicture) -> None:
        """Write a picture; the last one finishes the file."""
        if self._is_over:
            return
        found = _pixels(picture.content)
        if found is None:
            self.drop()
            return
        pixels, shape = np.ascontiguousarray(found[0]), found[1]
        try:
            if self._file is None and not self._begin(pixels.nbytes):
                return
            content = _bytes_of(pixels)
            self._file.write(content)
            sides = [int(side) for side in pixels.shape]
            kind, checksum = pixels.dtype.str, zlib.crc32(content)
            row = _Row(float(picture.time), int(picture.index), kind, sides, shape, checksum, picture.walked)
            self._rows.append(row)
            self._size += pixels.nbytes
            if len(self._rows) == self._count:
                self._finish()
        except OSError as error:
            self._store.give_up(error)
            self.drop()

    def drop(self) -> None:
        """Store nothing."""
        self._is_over = True
        if self._file is not None:
            with suppress(OSError):  # a full disk also refuses what waits to be written
                self._file.close()
        if self._part is not None:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
        self._file = self._part = None

    def _begin(self, size: int) -> bool:
        """Open the file if there is room for so many bytes a picture."""
        folder = self._store.folder
        folder.mkdir(parents=True, exist_ok=True)
        if not self._store.has_room(size * self._count):
            self._is_over = True
            return False
        if shutil.disk_usage(folder).free < size * self._count + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, "the disk is nearly full")
        self._part = folder / f".{secrets.token_hex(8)}{_UNFINISHED}"
        self._file = self._part.open("xb", buffering=1 << 20)
        return True

    def _finish(self) -> None:
        assert self._part is not None
        table = json.dumps([list(asdict(row).values()) for row in self._rows]).encode("ascii")
        self._file.write(table)
        self._file.write(_END.pack(len(table), zlib.crc32(table), _MARK))
        self._file.close()
        if self._store.has_room(self._size + len(table) + _END.size, self._part):
            os.replace(self._part, self._path)
            self._part = None
        self.drop()


class KeptPictures:
    """Pictures that are stored while they are drawn; nothing is, unless they are drawn to the end.

    Args:
        pictures: of any source.
        entry: takes them.
    """

    def __init__(self, pictures: PreparedPictures, entry: Entry) -> None:
        self._pictures = pictures
        self._entry = entry

    def __iter__(self) -> Iterator[PreparedPicture]:
        return self

    def __next__(self) -> PreparedPicture:
        try:
            picture = next(self._pictures)
        except BaseException:
            self._entry.drop()
            raise
        self._entry.add(picture)
        return picture

    def ready(self, count: int) -> bool:
        """As of the pictures."""
        return self._pictures.ready(count)

    def close(self) -> None:
        """Decode no more."""
        self._entry.drop()
        self._pictures.close()

    def __del__(self) -> None:
        self._entry.drop()


class StoredPictures:
    """Pictures out of an entry. From a damaged one on, they are decoded.

    Args:
        path: of the entry, which is removed when it turns out to be damaged.
        file: the same, open.
        rows: its table.
        decoded: decodes the pictures of given indices.
    """

    def __init__(
        self,
        path: Path,
        file: Any,
        rows: Sequence[_Row],
        decoded: Callable[[Sequence[int]], PreparedPictures],
    ) -> None:
        self._path = path
        self._file = file
        self._rows = rows
        self._decoded = decoded
        self._given = 0
        self._rest: PreparedPictures | None = None
        file.seek(0)

    def __iter__(self) -> Iterator[PreparedPicture]:
        return self

    def __next__(self) -> PreparedPicture:
        if self._rest is not None:
            return next(self._rest)
        if self._given == len(self._rows):
            self.close()
            raise StopIteration
        row = self._rows[self._given]
        pixels = self._read(row)
        if pixels is None:
            self._file.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._rest = self._decoded([each.index for each in self._rows[self._given :]])
            return next(self._rest)
        self._given += 1
        content = pixels if row.shape is None else PreparedFrame(pixels, FrameShape(**row.shape))
        return PreparedPicture(row.time, row.index, content, row.walked, is_stored=True)

    def ready(self, count: int) -> bool:
        """True for stored ones."""
        return self._rest is None or self._rest.ready(count)

    def close(self) -> None:
        """Give no more."""
        self._rows = self._rows[: self._given]
        self._file.close()
        if self._rest is not None:
            self._rest.close()

    def __del__(self) -> None:
        self._file.close()

    def _read(self, row: _Row) -> npt.NDArray[Any] | None:
        pixels = np.empty(row.sides, np.dtype(row.dtype))
        content = _bytes_of(pixels)
        try:
            is_whole = self._file.readinto(content) == len(content) and zlib.crc32(content) == row.checksum
        except OSError:
            is_whole = False
        return pixels if is_whole else None


class _NotingPickler(pickle.Pickler):
    """Notes the classes and functions of what it packs, one of each module."""

    def __init__(self, file: Any, protocol: int) -> None:
        super().__init__(file, protocol)
        self.fast = True  # equal values are packed alike, whether or not parts of them are one object
        self.kinds: dict[str, type | FunctionType] = {}

    def reducer_override(self, value: Any) -> Any:
        kind = value if isinstance(value, type | FunctionType) else type(value)
        package = kind.__module__.partition(".")[0]
        if package == "__main__" or package not in sys.stdlib_module_names | _BY_VERSION:
            self.kinds[kind.__module__] = kind
        return NotImplemented


def _table(file: Any) -> list[_Row]:
    """The table of an entry.

    Raises:
        Exception: it is damaged, or no entry.
    """
    length = os.fstat(file.fileno()).st_size
    file.seek(length - _END.size)
    size, checksum, mark = _END.unpack(file.read(_END.size))
    begin = length - _END.size - size
    file.seek(begin)
    table = file.read(size)
    if mark != _MARK or zlib.crc32(table) != checksum:
        raise ValueError("damaged")
    rows = [_Row(*values) for values in loaded(table)]
    if sum(row.size for row in rows) != begin:
        raise ValueError("cut")
    return rows


def _bytes_of(pixels: npt.NDArray[Any]) -> memoryview:
    flat: Any = pixels.reshape(-1).view(np.uint8)
    return memoryview(flat)


def _pixels(content: Any) -> tuple[npt.NDArray[Any], dict[str, int] | None] | None:
    """The array of a prepared picture and its shape in the model; None for what cannot be stored without loss."""
    shape = None
    if type(content) is PreparedFrame and type(content.shape) is FrameShape:
        content, shape = content.pixels, asdict(content.shape)
    is_plain = type(content) is np.ndarray and content.dtype.kind in "buif" and content.ndim and content.size
    return (content, shape) if is_plain else None
