"""Content-addressed files, for any number of processes at once.

A file appears whole or not at all, also over NFS; two writers of one key at worst do the same work twice.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.artefacts.writing import check_writable, replacing, unwritable
from pipeline.errors import StorageError
from pipeline.paths import local_path

_ELSEWHERE = "paths.cache=..."


class ContentStore:
    """A folder of files by key."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder = local_path(folder)
        self._suffix = suffix

    def __contains__(self, key: str) -> bool:
        """Whether something is stored under ``key``."""
        return self._path(key).is_file()

    def find(self, key: str) -> bytes | None:
        """The content stored under ``key``; None if there is none.

        Raises:
            StorageError: the folder cannot be read.
        """
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, PermissionError):
            # Earlier versions wrote files that only their user may read; these are written again.
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def keep(self, key: str, content: bytes) -> None:
        """Store ``content`` under ``key`` and wait until the disk has it.

        Raises:
            StorageError: the folder cannot be written.
        """
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise unwritable(path, error, _ELSEWHERE) from error

    def drop(self, key: str) -> None:
        """Remove what is stored under ``key``, if anything is.

        Raises:
            StorageError: the folder cannot be written.
        """
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error, _ELSEWHERE) from error

    def check_writable(self) -> None:
        """Check before hours of work that results can be stored. Makes no folder.

        Raises:
            StorageError: the folder cannot be written.
        """
        check_writable(self.folder, _ELSEWHERE)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{self._suffix}"

    def _unusable(self, error: OSError) -> StorageError:
        return StorageError(
            f"the cache {self.folder} cannot be used: {error.strerror or error}", f"choose another place: {_ELSEWHERE}"
        )
