"""Digests of a video's whole content, independent of its path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_BLOCK = 1 << 20


FileKey = tuple[str, int, int]
"""A file or a folder as it is now: its path, size and modification time."""


def file_fingerprint(path: Path) -> str:
    """BLAKE2b of the bytes as 32 hex digits. Cached while size and modification time stay the same."""
    key = file_key(path)
    return _found_elsewhere.get(key) or file_digest(key)


def file_key(path: Path) -> FileKey:
    """The key of the file at ``path``."""
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def folder_key(path: Path) -> FileKey:
    """The key of the folder at ``path``: the bytes in it, and a digest of names and times in the place of one time."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    for file in sorted(path.iterdir()):
        stat = file.lstat()
        digest.update(os.fsencode(file.name) + f"\0{stat.st_size} {stat.st_mtime_ns}\n".encode())
        size += stat.st_size
    return str(path.resolve()), size, int.from_bytes(digest.digest(), "big")


def remember_digest(key: FileKey, digest: str) -> None:
    """Take over what another process has found."""
    _found_elsewhere[key] = digest


_found_elsewhere: dict[FileKey, str] = {}


@lru_cache(maxsize=4096)
def file_digest(key: FileKey) -> str:
    """The digest itself."""
    digest = hashlib.blake2b(digest_size=16)
    with open(key[0], "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def files_fingerprint(paths: Iterable[Path], seconds: Iterable[float]) -> str:
    """BLAKE2b over several files, their names, and the second at which each is shown."""
    digest = hashlib.blake2b(digest_size=16)
    for path, second in zip(paths, seconds, strict=True):
        digest.update(os.fsencode(path.name))  # not every name is UTF-8
        digest.update(f"\0{second!r}\0{file_fingerprint(path)}\n".encode())
    return digest.hexdigest()
