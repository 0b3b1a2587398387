"""Videos that come with requests: on disk in a folder of the server's own, and deleted when nobody uses them any more.

A video is named by a digest of its content, so that the same one from several requests is one file: its questions are
answered together, and nothing about it is computed twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
import weakref
from contextlib import suppress
from pathlib import Path, PurePath
from types import TracebackType
from typing import BinaryIO

from pipeline.errors import RequestError, StorageError
from pipeline.subtitles.reading import FORMS
from pipeline.video.references import HEAD, playlist

SUFFIXES = frozenset(
    (
        *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".ivf"),
        *(".m1v", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4"),
        *(".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt"),
        *(".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m"),
    )
)
"""How names of video files end."""

_PREFIX = "gens-serve-"
_LOCK = "in-use"
_LEFT_FREE = 1 << 30
"""Bytes of the disk that uploads leave to others."""


class Kept:
    """A video on disk, until :meth:`release`.

    Attributes:
        path: of the file.
        size: in bytes.
    """

    def __init__(self, path: Path, size: int, scratch: Scratch) -> None:
        self.path = path
        self.size = size
        self._scratch = scratch
        self._is_released = False

    def release(self) -> None:
        """Say that it is not needed any more. The file is deleted when nobody needs it. May be called twice."""
        if not self._is_released:
            self._is_released = True
            self._scratch._release(self.path)

    def shared(self) -> Kept:
        """The same video for somebody else, who releases it as well."""
        return self._scratch._share(self)


class Scratch:
    """A folder for videos that come with requests.

    The folder can be read by this user alone. It is deleted by :meth:`close`, and what a killed server left behind by
    the next one.

    Args:
        parent: folder in which it is made; None takes the system's folder for temporary files.
        video_bytes: the most that one video may have.
        total_bytes: the most that all of them together may have, with those that are still coming.

    Raises:
        StorageError: the folder cannot be made.
    """

    def __init__(self, parent: Path | None, video_bytes: int, total_bytes: int) -> None:
        self.video_bytes = video_bytes
        self._total = total_bytes
        self._used = 0
        self._users: dict[Path, int] = {}
        self._guard = threading.Lock()
        place = Path(tempfile.gettempdir()) if parent is None else parent
        try:
            place.mkdir(parents=True, exist_ok=True)
            _delete_left_behind(place)
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place)).resolve()
            lock = (self.folder / _LOCK).open("wb")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(
                f"{place} cannot hold videos that are sent: {error.strerror or error}",
                "name a folder that can be written, videos.scratch=FOLDER",
            ) from error
        self._deletion = weakref.finalize(self, _delete, self.folder, lock)  # also when the process ends

    def receiving(self, announced: int | None, suffix: str) -> Receiving:
        """Begin to take a video.

        Args:
            announced: its size in bytes, if that was told. More than there is room for is refused before it is sent.
            suffix: how its name ends, as ``.mp4``; one that neither videos nor subtitles have is left out.

        Raises:
            RequestError: it is too large, or there is no room for it now.
        """
        if announced is not None:
            self.check_size(announced)
            with self._guard:
                self._check_room(announced)
        return Receiving(self, suffix.lower() if suffix.lower() in {*SUFFIXES, *FORMS} else "")

    def check_size(self, size: int) -> None:
        """Raise for a video that is larger than one may be."""
        if size > self.video_bytes:
            raise RequestError(
                f"the video is larger than the {self.video_bytes / 1e9:g} GB that the server takes",
                "put it below a folder of the server and name it there, or raise videos.video_gb= of gens serve",
                413,
            )

    def close(self) -> None:
        """Delete everything."""
        self._deletion()

    def _check_room(self, more: int) -> None:
        free = shutil.disk_usage(self.folder).free - _LEFT_FREE
        if self._used + more > self._total or more > free:
            raise RequestError(
                "the server has no room for another video now",
                "try again when others are done, or raise videos.total_gb= of gens serve if its disk is large enough",
                507,
            )

    def _take(self, count: int) -> None:
        with self._guard:
            self._check_room(count)
            self._used += count

    def _give_back(self, count: int) -> None:
        with self._guard:
            self._used -= count

    def _keep(self, written: Path, path: Path, size: int) -> Kept:
        with self._guard:
            if path in self._users:
                written.unlink()
                self._used -= size
            else:
                written.rename(path)
            self._users[path] = self._users.get(path, 0) + 1
        return Kept(path, size, self)

    def _share(self, kept: Kept) -> Kept:
        with self._guard:
            self._users[kept.path] += 1
        return Kept(kept.path, kept.size, self)

    def _release(self, path: Path) -> None:
        with self._guard:
            self._users[path] -= 1
            if not self._users[path]:
                del self._users[path]
                with suppress(OSError):
                    self._used -= path.stat().st_size
                    path.unlink()


class Receiving:
    """A video on its way in. Use it in a ``with``: without :meth:`kept` nothing stays."""

    def __init__(self, scratch: Scratch, suffix: str) -> None:
        self._scratch = scratch
        self._suffix = suffix
        self._digest = hashlib.blake2b(digest_size=16)
        self._head = b""
        self._size = 0
        self._is_kept = False

    def __enter__(self) -> Receiving:
        descriptor, name = tempfile.mkstemp(prefix="part-", dir=self._scratch.folder)
        self._path = Path(name)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        return self

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            RequestError: it becomes too large, there is no room, or it is a list of other files and no video.
        """
        self._scratch.check_size(self._size + len(data))
        self._scratch._take(len(data))
        self._size += len(data)
        self._digest.update(data)
        if len(self._head) < HEAD:
            self._head += data[: HEAD - len(self._head)]
        try:
            self._file.write(data)
        except OSError as error:
            raise RequestError(
                f"the server cannot keep the video: {error.strerror}", "make room on its disk, and send it again", 507
            ) from error

    def kept(self) -> Kept:
        """The whole video, to be released by the caller.

        Raises:
            RequestError: it is empty, or names other files.
        """
        if not self._size:
            raise RequestError("the video is empty: it has 0 bytes", "send the file's bytes", 400)
        check_head(self._head)
        self._file.close()
        kept = self._scratch._keep(self._path, self._named(), self._size)
        self._is_kept = True
        return kept

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._is_kept:
            self._path.unlink(missing_ok=True)
            self._scratch._give_back(self._size)

    def _named(self) -> Path:
        return self._scratch.folder / f"{self._digest.hexdigest()}{self._suffix}"


def check_head(head: bytes) -> None:
    """Refuse what names other files, by how it begins. A worker looks at the rest before it decodes.

    Raises:
        RequestError: a playlist, a manifest or a list.
    """
    what = playlist(head)
    if what is not None:
        raise RequestError(
            f"this is {what}: it names other files, and only a video itself is read",
            "give the video that it names",
            400,
        )


def suffix_of(name: str) -> str:
    """How a file's name ends, if videos end so; else an empty text."""
    suffix = PurePath(name).suffix.lower()
    return suffix if suffix in SUFFIXES else ""


def _delete(folder: Path, lock: BinaryIO) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.close()


def _delete_left_behind(place: Path) -> None:
    """Delete folders of servers that were killed: nobody holds their lock."""
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
