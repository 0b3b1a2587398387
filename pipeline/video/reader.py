"""Opens videos, each with a suitable backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame, Video
from pipeline.errors import ConfigError, MissingExtraError
from pipeline.identity import Label, Speed
from pipeline.video.backends import Decoder
from pipeline.video.backends.decord import DecordDecoder
from pipeline.video.backends.images import ImageDecoder, ImageFolder, read_image_folder
from pipeline.video.backends.pyav import PyAVDecoder
from pipeline.video.backends.pyav_counting import CountingDecoder
from pipeline.video.backends.torchcodec import TorchCodecDecoder
from pipeline.video.failures import reading
from pipeline.video.place import absolute
from pipeline.video.probing import Probe, folder_video, look
from pipeline.video.scan import Scan, scan
from pipeline.video.source import OpenVideo
from pipeline.video.timeline import is_rate

Wanted = Callable[[Video], tuple[Sequence[float], Callable[[Frame], Any]]]
"""From what is known of a video to seconds of it, and what is made of each picture there. The fingerprint is not known
yet.
"""


@dataclass(frozen=True)
class Reader:
    """How video files and folders of images are read."""

    name: Label[str]
    backend: Speed[Literal["auto", "decord", "pyav", "torchcodec"]]
    """``auto`` is PyAV. decord and torchcodec refuse files that they are known to read wrongly, and report less damage
    than PyAV. A folder of images needs no backend."""
    threads: Speed[int]
    """Threads that decode one video; 0 for one per core."""
    image_fps: float
    """Images a second in folders whose images are numbered and not named after their second (``sec012.png``)."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ConfigError(f"reader.threads={self.threads} is negative", "set reader.threads=0 for one a core")
        if not is_rate(self.image_fps):
            raise ConfigError(f"reader.image_fps={self.image_fps} is not a rate", "set reader.image_fps=1")

    def check(self) -> None:
        """Check before a video is opened that the backend is installed.

        Raises:
            MissingExtraError: it is not.
        """
        if self.backend in ("decord", "torchcodec") and find_spec(self.backend) is None:
            install = "'gens-videoqa[torchcodec]'" if self.backend == "torchcodec" else "decord"
            raise MissingExtraError(
                f"reader.backend={self.backend}: the package {self.backend} is not installed",
                f"pip install {install}, or set reader.backend=auto",
            )

    def expect(self, paths: Sequence[str]) -> None:
        """Say which videos will be asked for, in this order. A reader may begin with their work; this one does not."""

    def prefetch(self, path: str | None, wanted: Wanted | None) -> None:
        """Say what will be asked of a video, before it is probed. A reader may begin to decode; this one does not.

        Args:
            path: of the video; None withdraws what was said before.
            wanted: its pictures.
        """

    def probe(self, path: str | Path) -> Video:
        """As :func:`pipeline.video.probe`, with this reader's rate for folders of images."""
        return self.look(path).video

    def look(self, path: str | Path) -> Probe:
        """As :func:`pipeline.video.probing.look`, with this reader's rate for folders of images."""
        return look(path, self.image_fps)

    def known(self, path: str | Path) -> Probe | None:
        """The probe, where it was stored by an earlier run."""
        return None

    def known_scan(self, path: Path) -> Scan | None:
        """The scan of a file, likewise."""
        return None

    def times(self, path: str | Path) -> npt.NDArray[np.float64]:
        """When each native frame appears, in seconds, ascending. Decodes nothing.

        Raises:
            VideoError: as in ``probe``.
        """
        path = absolute(path)
        timeline = read_image_folder(path, self.image_fps).timeline if path.is_dir() else self.scan(path).timeline
        return timeline.times

    def open(self, path: str | Path) -> OpenVideo:
        """Open a file or a folder; close the result, or use it in a ``with``.

        Raises:
            MissingVideoError, EmptyVideoError, NoVideoStreamError, TruncatedVideoError: as in ``probe``.
            UnsupportedVideoError: the chosen backend cannot read the file, or is known to read it wrongly.
            VideoError: any other failure while the file is read.
            MissingExtraError: the chosen backend is not installed.
        """
        path = absolute(path)
        with reading(path):
            return self._open(path)

    def scan(self, path: Path) -> Scan:
        """Scan a file; raises as :func:`pipeline.video.scan.scan`."""
        return scan(path)

    def _open(self, path: Path) -> OpenVideo:
        if os.path.isdir(path):
            folder = read_image_folder(path, self.image_fps)
            return self.open_scanned(folder_video(folder), folder)
        return self.open_scanned(self.probe(path), self.scan(path))

    def open_scanned(self, video: Video, facts: Scan | ImageFolder) -> OpenVideo:
        """Open a file or a folder of which all is known; raises as :meth:`open`."""
        if isinstance(facts, ImageFolder):
            return OpenVideo(video, facts.timeline, ImageDecoder(facts), has_one_size=False)
        return OpenVideo(video, facts.timeline, self._decoder(facts), has_one_size=True)

    def _decoder(self, facts: Scan) -> Decoder:
        if self.backend == "decord":
            return DecordDecoder(facts, self.threads)
        if self.backend == "torchcodec":
            return TorchCodecDecoder(facts, self.threads)
        if facts.is_counted:
            return CountingDecoder(facts, self.threads)
        return PyAVDecoder(facts, self.threads)
