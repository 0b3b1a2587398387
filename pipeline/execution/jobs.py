"""Jobs of worker processes: probing a video, and decoding some of its frames."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.domain import Video
from pipeline.execution.crashes import Crashes
from pipeline.execution.forks import Fork, ForkedWork
from pipeline.video.backends.images import ImageFolder, images_fingerprint, read_image_folder
from pipeline.video.failures import reading
from pipeline.video.fingerprint import file_digest, file_fingerprint, file_key, remember_digest
from pipeline.video.parts import reading_with
from pipeline.video.place import regular_file
from pipeline.video.probing import Probe
from pipeline.video.reader import Reader
from pipeline.video.scan import Scan


@dataclass(frozen=True)
class Looked:
    """A file that can be opened without reading it again."""

    probe: Probe
    scan: Scan


@dataclass(frozen=True)
class Look:
    """Scans and hashes a file."""

    path: str
    reader: Reader
    crashes: Crashes
    processes: int
    """That may read the file at once."""

    def run(self, held: Callable[[str], Any]) -> Generator[list[Scan] | list[Probe], None, None]:
        """The scan, and the probe as soon as the file is hashed, which takes longer.

        Raises:
            VideoError: the file cannot be read, or crashed a process before.
        """
        path = Path(self.path)
        if self.crashes.are_any():
            with reading(path):
                self.crashes.check(file_fingerprint(path), path)
        with reading(path):
            key = file_key(regular_file(path))
        with closing(Fork(partial(file_digest, key))) as hashing:
            with reading_with(ForkedWork(self.processes)):
                scan = self.reader.scan(path)
            yield [scan]
            digest = hashing.result()
        if digest is not None:
            remember_digest(key, digest)
        yield [self.reader.look(path)]


@dataclass(frozen=True)
class LookedFolder:
    """A folder of images that can be opened without reading it again."""

    probe: Probe
    folder: ImageFolder


@dataclass(frozen=True)
class LookFolder:
    """Lists and hashes the images of a folder."""

    path: str
    reader: Reader
    crashes: Crashes

    def run(self, held: Callable[[str], Any]) -> Generator[list[LookedFolder], None, None]:
        """What there is to know of it.

        Raises:
            VideoError: the folder cannot be read, or crashed a process before.
        """
        path = Path(self.path)
        with reading(path):
            if self.crashes.are_any():
                self.crashes.check(images_fingerprint(path), path)
            folder = read_image_folder(path, self.reader.image_fps)
        yield [LookedFolder(self.reader.look(path), folder)]


Decoded = tuple[float, int, Any, int | None]
"""A frame: its time, its native index, its pixels or what was made of them, and the frames that were decoded for it."""


@dataclass(frozen=True)
class Decode:
    """Decodes frames of one file or folder, and prepares them."""

    path: str
    reader: Reader
    video: Video
    indices: tuple[int, ...]
    """Native ones, ascending."""
    scan: str
    """Key of the file's scan, or of the :class:`ImageFolder`."""
    prepare: str | None
    """Key of what makes a frame ready for a model; None gives its pixels as they are."""
    at_once: int
    """Frames in a part of the result."""

    def run(self, held: Callable[[str], Any]) -> Generator[list[Decoded], None, None]:
        """The frames in order; those before a failure come first.

        Raises:
            VideoError: a frame cannot be decoded or prepared.
        """
        prepare = held(self.prepare) if self.prepare is not None else None
        scan = held(self.scan)
        part: list[Decoded] = []
        try:
            with reading(self.path):
                source = self.reader.open_scanned(self.video, scan)
            with source:
                for frame in source.frames_of(self.indices):
                    content = frame.pixels if prepare is None else prepare(frame)
                    part.append((frame.time, frame.index, content, frame.walked))
                    if len(part) == self.at_once:
                        yield part
                        part = []
        except Exception:
            if part:
                yield part
            raise
        if part:
            yield part
