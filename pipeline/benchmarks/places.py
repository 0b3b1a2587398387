"""Finds a benchmark's files: folders next to its annotations, and videos stored in another container."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.domain import Subtitles
from pipeline.paths import local_path, path_text

CONTAINERS = (".mp4", ".mkv", ".webm", ".mov", ".avi")
"""Suffixes tried in this order if a video is not found under its own name: downloads keep the site's container."""


@dataclass(frozen=True)
class VideoFolder:
    """A folder of videos, listed once: thousands of questions on a network disk cost one listing."""

    path: Path
    _listed: dict[Path, frozenset[str]] = field(default_factory=dict)

    def find(self, *names: str) -> str:
        """The path of the first of ``names`` that exists, with its own suffix or in another container.

        If none exists, the path of the first, so that the run reports the missing video for its questions.
        """
        for name in names:
            place = self.path / name
            there = self._names(place.parent)
            for candidate in (place.name, *(place.stem + suffix for suffix in CONTAINERS)):
                if candidate in there:
                    return path_text((place.parent / candidate).absolute())
        return path_text((self.path / names[0]).absolute())

    def search(self, name: str) -> str:
        """As :meth:`find`, also in the subfolders of this folder, for names that are unique."""
        return self.find(name, *(f"{inner}/{name}" for inner in self._folders))

    @cached_property
    def _folders(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self._names(self.path) if (self.path / name).is_dir()))

    def _names(self, folder: Path) -> frozenset[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(entry.name for entry in folder.iterdir())
            except (OSError, ValueError):  # ValueError: a NUL in a name
                self._listed[folder] = frozenset()
        return self._listed[folder]


@dataclass(frozen=True)
class SubtitleFolder:
    """A folder of subtitle files, of which no list says which videos have one."""

    path: Path

    def find(self, name: str) -> Subtitles | None:
        """The file of this name; None for a video without one.

        If the whole folder is missing, every video is given a file in it, so that a run with subtitles reports what is
        missing instead of running without them.
        """
        is_there = self._names is None or name in self._names
        return Subtitles(path_text((self.path / name).absolute())) if is_there else None

    @cached_property
    def _names(self) -> frozenset[str] | None:
        return frozenset(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else None


def folder(root: str | None, base: Path, *usual: str) -> Path:
    """``root`` if given; otherwise the first of the ``usual`` places below ``base`` that exists, or the first of
    all.
    """
    if root is not None:
        return local_path(root)
    # By name, since the parent of a link is not the parent of its target.
    places = [Path(os.path.normpath(base.absolute() / place)) for place in usual]
    return next((place for place in places if place.is_dir()), places[0])
