"""Files that appear whole or not at all, and the errors of a full disk.

Files and folders get the permissions that the umask and the folder give them, so that everybody who shares the folder
can continue with them. (Python's temporary files are readable by their owner only.)
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import StorageError

FREE_SPACE = "free some space, then run the same command"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_OS_ERROR = re.compile(r"\(os error ([0-9]{1,4})\)")
"""As Rust prints it."""
UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.part")
"""Name of a file that is being written, or that a killed process has left."""


def is_full(error: OSError) -> bool:
    """Whether the error says that a disk, a quota or a limit of the process is exhausted."""
    return error.errno in _FULL


def full_disk_error(error: BaseException) -> OSError | None:
    """The error of a full disk that caused another library's error; None if there is none.

    The hub's transfer library is not written in Python and only gives the system's error as text.
    """
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and is_full(at):
            return at
        told = _OS_ERROR.search(str(at))
        if told is not None and int(told[1]) in _FULL:
            return OSError(int(told[1]), os.strerror(int(told[1])))
        at = at.__cause__ or at.__context__
    return None


def unwritable(path: Path | str, error: OSError, override: str) -> StorageError:
    """The error for a file that cannot be written; ``override`` chooses another place."""
    elsewhere = f"choose another place: {override}"
    remedy = f"{FREE_SPACE}; or {elsewhere}" if is_full(error) else elsewhere
    return StorageError(f"{path} cannot be written: {error.strerror or error}", remedy)


@contextmanager
def writing(path: Path, override: str) -> Iterator[None]:
    """Turn an ``OSError`` while ``path`` is written into an error that names it.

    Args:
        path: the file or folder being written.
        override: the override that chooses another place, such as ``paths.runs=...``.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error, override) from error


def check_writable(folder: Path, override: str) -> None:
    """Check that files can be written into a folder, which need not exist yet. Makes no folder.

    Raises:
        StorageError: they cannot.
    """
    with writing(folder, override):
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass


def write_whole(content: bytes, target: Path, override: str) -> None:
    """Write ``target``, and its folder if needed, so that no reader ever sees a part of it.

    Raises:
        StorageError: it cannot be written.
    """
    write_parts((content,), target, override)


def write_parts(parts: Iterable[bytes], target: Path, override: str) -> None:
    """As :func:`write_whole`, of content that is made part by part and is never in memory as a whole.

    Raises:
        StorageError: it cannot be written, or making a part raises an ``OSError``.
    """
    with writing(target, override):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary, temporary.open("wb") as file:
            file.writelines(parts)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary file next to ``target`` that replaces it on success, and is removed otherwise.

    Raises:
        OSError: it cannot be made or put there.
    """
    # A short name of its own: the target's may be as long as the file system allows.
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
