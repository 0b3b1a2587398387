"""Stores probes and scans across runs: an unchanged file is neither scanned nor hashed a second time."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts.store import ContentStore
from pipeline.errors import StorageError
from pipeline.identity import Place, digest
from pipeline.video.failures import reading
from pipeline.video.kept import scan_bytes, scan_of_bytes
from pipeline.video.place import absolute, regular_file
from pipeline.video.probing import Probe
from pipeline.video.reader import Reader
from pipeline.video.scan import Scan
from pipeline.wellformed import dumped

PROBE_VERSION = 3
"""Part of every key. Raise it when the same file gives another scan or probe than before."""

_PROBE = TypeAdapter(Probe)


@dataclass(frozen=True)
class RememberingReader(Reader):
    """A reader that scans a file once, as long as its path, size and modification time stay the same."""

    probe_store: Place[Path | None]
    """Folder of stored probes and scans; None stores nothing. A folder that cannot be used only costs time."""

    def known(self, path: str | Path) -> Probe | None:
        """The probe, where the file has not changed since it was stored."""
        if self.probe_store is None:
            return None
        path = absolute(path)
        key = _key(path, self.image_fps)
        return _known(ContentStore(self.probe_store / "probes", ".json"), key) if key else None

    def known_scan(self, path: Path) -> Scan | None:
        """The scan, likewise."""
        if self.probe_store is None:
            return None
        with reading(path):
            file = regular_file(path)
        key = _key(path, self.image_fps)
        return _known_scan(ContentStore(self.probe_store / "scans", ".npz"), key, path, file) if key else None

    def look(self, path: str | Path) -> Probe:
        """As :meth:`Reader.look`. Failures are not stored, since the file may be repaired."""
        if self.probe_store is None:
            return super().look(path)
        store = ContentStore(self.probe_store / "probes", ".json")
        path = absolute(path)
        key = _key(path, self.image_fps)
        found = _known(store, key) if key else None
        if found is None:
            found = super().look(path)
            _keep(store, key, _key(path, self.image_fps), dumped(_PROBE, found))
            if not os.path.isdir(path):
                self.scan(path)
        return found

    def scan(self, path: Path) -> Scan:
        """As :meth:`Reader.scan`."""
        if self.probe_store is None:
            return super().scan(path)
        store = ContentStore(self.probe_store / "scans", ".npz")
        with reading(path):
            file = regular_file(path)
        key = _key(path, self.image_fps)
        found = _known_scan(store, key, path, file) if key else None
        if found is None:
            found = super().scan(path)
            _keep(store, key, _key(path, self.image_fps), scan_bytes(found))
        return found


def _keep(store: ContentStore, key: str | None, key_now: str | None, content: bytes) -> None:
    """Store ``content``, unless the file has changed in the meantime."""
    if key and key == key_now:
        with suppress(StorageError):
            store.keep(key, content)


def _known_scan(store: ContentStore, key: str, path: Path, file: Path) -> Scan | None:
    try:
        content = store.find(key)
        return None if content is None else scan_of_bytes(content, path, file)
    except Exception:  # a damaged entry may raise anything, and is written again
        return None


def _known(store: ContentStore, key: str) -> Probe | None:
    try:
        content = store.find(key)
        return None if content is None else _PROBE.validate_json(content)
    except (StorageError, ValidationError):
        return None


def _key(path: Path, image_fps: float) -> str | None:
    """Digest of path, sizes and modification times; None if there is nothing to read."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
    except (OSError, ValueError):  # ValueError: a name with a null character
        return None
    return digest(
        {
            "version": PROBE_VERSION,
            "path": str(path),
            "files": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
            "image_fps": image_fps,
        }
    )
