"""Videos whose reading crashed or hung a process, so that the same command does not try them again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts.store import ContentStore
from pipeline.errors import CrashedVideoError, StorageError
from pipeline.identity import digest
from pipeline.video.backends.images import ImageDecoder
from pipeline.wellformed import dumped

_AGAIN = "execution.retry=crashed"


@dataclass(frozen=True)
class _Noted:
    """What is recorded of a crash."""

    reason: str
    within: float | None = None
    """Seconds that were not enough."""


_NOTED = TypeAdapter(_Noted)


@dataclass(frozen=True)
class Crashes:
    """Crashes that were recorded, by the content of the file or folder and the version of its decoder."""

    folder: Path | None
    """None records nothing."""
    backend: str
    """Of the reader; ``images`` for folders of images."""
    is_forgiving: bool
    """Whether such videos are tried again, and their records removed."""
    deadline: float = 0.0
    """Seconds; a video that was given fewer is tried again."""

    def are_any(self) -> bool:
        """Whether any was recorded."""
        return self.folder is not None and self._store(self.folder).folder.is_dir()

    def check(self, fingerprint: str, path: Path | str) -> None:
        """Refuse a video that crashed a process before.

        Raises:
            CrashedVideoError: it did, with this version of the decoder.
        """
        if self.folder is None:
            return
        store, key = self._store(self.folder), self._key(fingerprint)
        with suppress(StorageError, ValidationError):
            if self.is_forgiving:
                store.drop(key)
            elif (content := store.find(key)) is not None:
                noted = _NOTED.validate_json(content)
                if noted.within is None or noted.within >= self.deadline:
                    raise self.error(path, noted.reason, "in an earlier run ")

    def note(self, fingerprint: str, reason: str, within: float | None = None) -> None:
        """Record a crash, and the seconds that were not enough. A folder that cannot be written only costs time."""
        if self.folder is not None:
            with suppress(StorageError):
                self._store(self.folder).keep(self._key(fingerprint), dumped(_NOTED, _Noted(reason, within)))

    def error(self, path: Path | str, reason: str, when: str = "") -> CrashedVideoError:
        """The failure of a video.

        Args:
            path: of the video.
            reason: as :class:`pipeline.execution.processes.Crash` has it.
            when: if it was not now.
        """
        content, decoder = ("images", "Pillow") if self.backend == ImageDecoder.name else ("file", "PyAV")
        return CrashedVideoError(
            f"{path} {when}{reason}", f"fetch or copy the {content} again, or update {decoder}; to try again: {_AGAIN}"
        )

    def _key(self, fingerprint: str) -> str:
        return digest({"crash": 1, "video": fingerprint, "decoder": decoder_versions(self.backend)})

    @staticmethod
    def _store(folder: Path) -> ContentStore:
        return ContentStore(folder / "crashes", ".json")


@lru_cache
def decoder_versions(backend: str) -> list[str]:
    """Name and version of each package that may decode."""
    found = []
    packages = {ImageDecoder.name: ["pillow"], "decord": ["av", "decord"], "torchcodec": ["av", "torchcodec"]}
    for package in packages.get(backend, ["av"]):
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found
