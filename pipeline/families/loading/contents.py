"""Which files of a checkpoint decide what the model says, and one digest of their contents.

The digest depends on names and bytes alone: a checkpoint that was moved, copied or fetched again is the same one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath

from pipeline.artefacts.store import ContentStore
from pipeline.progress import track


class Notes:
    """Texts by what they are about.

    Args:
        store: a folder that any number of processes share; None keeps notes for this process only.
    """

    def __init__(self, store: Path | None) -> None:
        self._store = ContentStore(store / "checkpoints", ".json") if store is not None else None
        self._known: dict[str, str] = {}

    def find(self, *about: str) -> str | None:
        """The text that was kept under these words.

        Raises:
            StorageError: the folder cannot be read.
        """
        key = _key(about)
        if key not in self._known and self._store is not None:
            content = self._store.find(key)
            text = _text(content) if content is not None else None
            if text is not None:
                self._known[key] = text
        return self._known.get(key)

    def keep(self, text: str, *about: str) -> None:
        """Keep a text under these words.

        Raises:
            StorageError: the folder cannot be written.
        """
        if self.find(*about) == text:
            return
        key = _key(about)
        self._known[key] = text
        if self._store is not None:
            self._store.keep(key, json.dumps({"text": text}).encode())


@lru_cache(maxsize=8)
def open_notes(store: Path | None) -> Notes:
    """The notes in a folder, one object a folder and process."""
    return Notes(store)


def _key(about: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(about).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _text(content: bytes) -> str | None:
    """None for a file that was damaged: it is made again."""
    try:
        text = json.loads(content)["text"]
    except (ValueError, LookupError, TypeError):
        return None
    return text if isinstance(text, str) else None


LARGE = 16 * 2**20
"""Bytes. Smaller files are hashed each time, which takes milliseconds."""
_TOLD = 2**30
"""Bytes. Hashing more than this takes seconds, so progress is shown."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SETTINGS = {".json", ".jinja", ".model"}
_WORD_LISTS = {"vocab.txt", "merges.txt"}
_OF_TRAINING = re.compile(r"(all|train|eval|predict|test)_results\.json|trainer_state\.json|training_args\.json")
"""Bookkeeping that a training run leaves, which no model reads."""
_SKIPPED_FOLDER = re.compile(r"\..*|checkpoint-\d+|global_step\d+")
"""Hidden folders, and intermediate states of a training run."""
_SETTLED_NS = 2 * 10**9
"""A file that changed less than this ago may change again without another time stamp."""


def deciding(names: Iterable[str]) -> list[str]:
    """The files that decide the output: weights, configs, tokenizers, templates, processors.

    Of weights in two formats those that are loaded: safetensors, where a folder has any.

    Args:
        names: of all files of the checkpoint, relative to its folder, with forward slashes.

    Returns:
        Some of the names, sorted.
    """
    paths = [path for path in map(PurePosixPath, names) if not _is_skipped(path)]
    with_safetensors = {path.parent for path in paths if path.suffix == ".safetensors"}
    found = []
    for path in paths:
        index = path.name.endswith(".index.json")
        if path.suffix == ".safetensors" or path.match("pytorch_model*.bin") or index:
            decides = (".safetensors" in path.name) == (path.parent in with_safetensors)
        else:
            settings = path.suffix in _SETTINGS and not _OF_TRAINING.fullmatch(path.name)
            decides = settings or path.name in _WORD_LISTS
        if decides:
            found.append(path.as_posix())
    return sorted(found)


def files_in(folder: Path) -> list[str]:
    """Names of all files of a checkpoint folder, relative to it, with forward slashes."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def digest(hashes: Mapping[str, str]) -> str:
    """One name for a checkpoint of these contents.

    Args:
        hashes: SHA-256 in hexadecimal by file name.
    """
    lines = "".join(f"{name}\0{hashes[name]}\n" for name in sorted(hashes))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def of_folder(folder: Path, notes: Notes) -> str:
    """The digest of what a folder holds.

    Raises:
        OSError: a file cannot be read.
    """
    return digest(hashes(folder, deciding(files_in(folder)), notes))


def hashes(folder: Path, names: Iterable[str], notes: Notes) -> dict[str, str]:
    """The SHA-256 of each file, by its name.

    A large file is read once: its hash is noted by path, size and times, or known from the hub's client.

    Args:
        folder: of the checkpoint.
        names: of files in it.
        notes: of earlier hashes.

    Raises:
        OSError: a file cannot be read.
    """
    found: dict[str, str] = {}
    unread: list[str] = []
    for name in names:
        path = folder / name
        known = None
        if path.stat().st_size > LARGE:
            known = _named_by_hash(path) or _said_by_download(folder, name) or notes.find(*_state(path))
        if known is None:
            unread.append(name)
        else:
            found[name] = known
    sizes = {name: (folder / name).stat().st_size for name in unread}
    if sum(sizes.values()) <= _TOLD:
        return found | {name: _hash(folder / name, notes) for name in unread}
    with (
        track(f"hashing {folder.name} (once), MB", sum(sizes.values()) // 10**6) as advance,
        ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool,
    ):
        for name, made in zip(unread, pool.map(lambda name: _hash(folder / name, notes), unread), strict=True):
            found[name] = made
            advance(sizes[name] // 10**6)
    return found


def _is_skipped(path: PurePosixPath) -> bool:
    return path.name.startswith(".") or any(_SKIPPED_FOLDER.fullmatch(part) for part in path.parts[:-1])


def _hash(path: Path, notes: Notes) -> str:
    before = _state(path)
    with path.open("rb") as file:
        made = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS
    if status.st_size > LARGE and settled and _state(path) == before:
        notes.keep(made, *before)
    return made


def _state(path: Path) -> tuple[str, ...]:
    """What changes when the file does. The time of its last change of status cannot be set back, unlike the other."""
    status = path.stat()
    return ("file", str(path.resolve()), str(status.st_size), str(status.st_mtime_ns), str(status.st_ctime_ns))


def _named_by_hash(path: Path) -> str | None:
    """The hash of a large file in the hub client's cache, which is the name of the file that the link leads to."""
    target = path.resolve()
    return target.name if target.parent.name == "blobs" and _SHA256.fullmatch(target.name) else None


def _said_by_download(folder: Path, name: str) -> str | None:
    """The hash of a large file that the hub's client put into a folder, if the file has not changed since.

    The client notes commit, hash and time of a download, a line each, in a hidden folder (huggingface_hub,
    ``_local_folder.py``).
    """
    note = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
    try:
        _, named, written = note.read_text(encoding="utf-8").split("\n")[:3]
        status = (folder / name).stat()
        unchanged = max(status.st_mtime, status.st_ctime) <= float(written)
    except (OSError, ValueError):
        return None
    return named if unchanged and _SHA256.fullmatch(named) else None
