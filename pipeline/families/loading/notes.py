"""What was learned of checkpoints and need not be found out again: hashes of files, contents of commits, configs.

Notes decide no result. Without them the same is found out again, from the files or from the hub.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from pipeline.artefacts.store import ContentStore


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
