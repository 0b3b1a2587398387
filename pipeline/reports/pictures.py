"""Stores a page's pictures: a few inside the page, many in a folder next to it."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pipeline.artefacts.writing import write_whole
from pipeline.reports.thumbnails import ThumbnailSet

INLINE_BYTES = 12_000_000
"""The most bytes of pictures that a page holds inline, so that it can be sent as one file and opens quickly."""

_NAME = re.compile(r"[0-9a-f]{20}\.jpg")


@dataclass(frozen=True)
class Picture:
    """A picture as the page shows it."""

    address: str
    """A ``data:`` URL, or a path relative to the page."""
    width: int
    """Pixels."""
    height: int


@dataclass(frozen=True)
class PagePictures:
    """The pictures of a page, each with its address."""

    shown: Mapping[tuple[str, float], Picture]
    """By video path and second."""
    problems: Mapping[str, str]
    """Videos without pictures, and why."""
    files: Mapping[str, bytes]
    """Pictures in the folder next to the page, by file name; empty where all are inline."""


def video_addresses(videos: Iterable[str], folder: Path) -> dict[str, str]:
    """Where the video files lie, by path, as seen from a page in ``folder``; those that are no files are left out."""
    found: dict[str, str] = {}
    for video in dict.fromkeys(videos):
        try:
            if Path(video).is_file():
                found[video] = quote(Path(os.path.relpath(video, folder)).as_posix())
        except (OSError, ValueError):
            continue  # a name that cannot be one, or a drive to which no relative path leads
    return found


def place_pictures(
    thumbnails: ThumbnailSet, uses: Iterable[tuple[str, float]], folder: str, inline_bytes: int = INLINE_BYTES
) -> PagePictures:
    """Give each picture an address: inside the page if all of them fit ``inline_bytes``, else in ``folder``.

    ``uses`` holds the pictures as often as the page shows them, since an inline picture is repeated. A page has all of
    its pictures inline or none, so that one that is sent alone does not lose some of them.
    """
    times = Counter(place for place in uses if place in thumbnails.pictures)
    inside = {place: thumbnails.pictures[place].data_uri for place in times}
    if sum(len(inside[place]) * count for place, count in times.items()) <= inline_bytes:
        return PagePictures(_shown(thumbnails, inside), thumbnails.problems, {})
    names = {place: hashlib.sha256(thumbnails.pictures[place].jpeg).hexdigest()[:20] + ".jpg" for place in times}
    return PagePictures(
        _shown(thumbnails, {place: f"{folder}/{name}" for place, name in names.items()}),
        thumbnails.problems,
        {name: thumbnails.pictures[place].jpeg for place, name in names.items()},
    )


def _shown(thumbnails: ThumbnailSet, addresses: Mapping[tuple[str, float], str]) -> dict[tuple[str, float], Picture]:
    return {
        place: Picture(address, thumbnails.pictures[place].width, thumbnails.pictures[place].height)
        for place, address in addresses.items()
    }


def write_pictures(pictures: PagePictures, folder: Path, override: str) -> None:
    """Write the files into ``folder`` and remove pictures of an earlier page; without files, remove the folder.

    Raises:
        StorageError: it cannot be written.
    """
    for name, content in pictures.files.items():
        if not (folder / name).is_file():
            write_whole(content, folder / name, override)
    if not folder.is_dir():
        return
    for old in folder.iterdir():
        if _NAME.fullmatch(old.name) and old.name not in pictures.files:
            old.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
