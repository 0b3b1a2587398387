"""Resolves a video's path to a regular file, and checks it before anything is read from it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.errors import EmptyVideoError, InputError, MissingVideoError, UnsupportedVideoError, VideoError
from pipeline.paths import local_path
from pipeline.video.failures import FETCH_AGAIN

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def absolute(path: str | Path) -> Path:
    """The absolute path, as :func:`pipeline.paths.local_path` reads it.

    Raises:
        VideoError: no file can have this name.
    """
    try:
        return Path(os.path.abspath(local_path(path)))
    except InputError as error:
        raise VideoError(error.problem, error.remedy) from error


def regular_file(path: Path) -> Path:
    """The readable regular file behind all symbolic links.

    Raises:
        MissingVideoError: there is nothing at the path, or a link leads nowhere.
        EmptyVideoError: the file has no bytes.
        UnsupportedVideoError: a folder, a named pipe, a socket or a device.
        VideoError: it may not be read.
    """
    try:
        file = Path(os.path.realpath(path, strict=True))
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a named pipe would wait for a writer
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no regular file")
            raise UnsupportedVideoError(f"{path} is {kind}", "give the path of a video file or a folder of images")
        with file.open("rb"):
            pass
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise MissingVideoError(
                f"{path} is a link to {os.readlink(path)}, which is not there", "put the file there, or repair the link"
            ) from error
        raise MissingVideoError(f"there is no video {path}", "check the path, or put the file there") from error
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}", "check the permissions of the file") from error
    if found.st_size == 0:
        raise EmptyVideoError(f"{path} has no bytes", FETCH_AGAIN)
    return file
