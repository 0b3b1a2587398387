"""Files that appear whole or not at all, and what is said when a disk takes no more.

Files and folders get the permissions that the umask and the folder give them, as those of any other program: whoever
shares the folder can go on with them. (Python's temporary files are readable by their owner alone.)
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import StorageError

FREE_SPACE = "free some space, then run the same command"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: OSError) -> bool:
    """Whether a disk, a quota or a limit of the process takes no more."""
    return error.errno in _FULL


def unwritable(path: Path | str, error: OSError, override: str) -> StorageError:
    """The error for a file that cannot be written; ``override`` is what chooses another place."""
    elsewhere = f"choose another place: {override}"
    remedy = f"{FREE_SPACE}; or {elsewhere}" if is_full(error) else elsewhere
    return StorageError(f"{path} cannot be written: {error.strerror or error}", remedy)


@contextmanager
def writing(path: Path, override: str) -> Iterator[None]:
    """Turn what the system says while ``path`` is written into an error that names it.

    Args:
        path: what is written.
        override: what chooses another place, such as ``paths.runs=...``.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error, override) from error


def check_writable(folder: Path, override: str) -> None:
    """See that files can be written into a folder that need not be there yet. Makes no folder.

    Raises:
        StorageError: they cannot.
    """
    with writing(folder, override):
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass


def write_whole(content: bytes, target: Path, override: str) -> None:
    """Write ``target``, and its folder if need be, so that no reader ever sees a part of it.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(target, override):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            temporary.write_bytes(content)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A file beside ``target`` that takes its place when all is well, and is removed otherwise.

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
