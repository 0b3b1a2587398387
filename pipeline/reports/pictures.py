"""Places a page's pictures: a few inside the page, many in a folder beside it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.writing import write_whole
from pipeline.reports.thumbnails import Album

INLINE_BYTES = 12_000_000
"""Pictures that a page holds itself: it can be sent as one file, and opens at once."""

_NAME = re.compile(r"[0-9a-f]{20}\.jpg")


@dataclass(frozen=True)
class Picture:
    """A picture as the page shows it."""

    address: str
    """``data:`` with all of it, or its place relative to the page."""
    width: int
    """Pixels."""
    height: int


@dataclass(frozen=True)
class Gallery:
    """The pictures of a page, each with its address."""

    shown: Mapping[tuple[str, float], Picture]
    """By video path and second."""
    problems: Mapping[str, str]
    """Videos without pictures, and why."""
    files: Mapping[str, bytes]
    """Pictures that stand beside the page, by file name; empty where the page is complete in itself."""


def hang(album: Album, uses: Iterable[tuple[str, float]], folder: str, inline_bytes: int = INLINE_BYTES) -> Gallery:
    """Give each picture of ``album`` an address: inside the page if all go into ``inline_bytes``, else in ``folder``.

    ``uses`` says which picture the page shows where: one that it shows twice is in it twice. All or none, because a
    page of which some pictures are lost when it is sent alone is worse than one that says so.
    """
    times = Counter(place for place in uses if place in album.pictures)
    inside = {place: album.pictures[place].data_uri for place in times}
    if sum(len(inside[place]) * count for place, count in times.items()) <= inline_bytes:
        return Gallery(_shown(album, inside), album.problems, {})
    names = {place: hashlib.sha256(album.pictures[place].jpeg).hexdigest()[:20] + ".jpg" for place in times}
    return Gallery(
        _shown(album, {place: f"{folder}/{name}" for place, name in names.items()}),
        album.problems,
        {name: album.pictures[place].jpeg for place, name in names.items()},
    )


def _shown(album: Album, addresses: Mapping[tuple[str, float], str]) -> dict[tuple[str, float], Picture]:
    return {
        place: Picture(address, album.pictures[place].width, album.pictures[place].height)
        for place, address in addresses.items()
    }


def store(gallery: Gallery, folder: Path, override: str) -> None:
    """Make ``folder`` hold the gallery's files and no picture of an earlier page; without files there is no folder.

    Raises:
        StorageError: it cannot be written.
    """
    for name, content in gallery.files.items():
        if not (folder / name).is_file():
            write_whole(content, folder / name, override)
    if not folder.is_dir():
        return
    for old in folder.iterdir():
        if _NAME.fullmatch(old.name) and old.name not in gallery.files:
            old.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
