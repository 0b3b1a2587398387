"""Probes videos: their length, rate, size and fingerprint, and how much of them can be read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.domain import Video
from pipeline.paths import path_text
from pipeline.video.backends.images import ImageFolder, read_image_folder
from pipeline.video.failures import reading
from pipeline.video.fingerprint import file_fingerprint, files_fingerprint
from pipeline.video.place import absolute
from pipeline.video.scan import Scan, scan


@dataclass(frozen=True)
class Probe:
    """A video, and how much of it can be read."""

    video: Video
    readable: float
    """End of the last readable frame in seconds: before ``video.duration`` in a cut file."""
    damaged: tuple[float, ...] = ()
    """Seconds of the frames with parts that the container shows to be lost."""


def probe(path: str | Path, image_fps: float = 1.0) -> Video:
    """Length, rate, size and fingerprint of a video file or a folder of images.

    Every packet is read, so the figures are those of the actual frames, not of a header. A file that was cut short
    keeps its declared duration: frames before the cut can be read, asking for later ones is an error.
    ``image_fps`` is the rate of folders whose images are numbered and not named after their second.

    Raises:
        MissingVideoError, EmptyVideoError, NoVideoStreamError, TruncatedVideoError, UnsupportedVideoError
        VideoError: any other failure while the file is read.
    """
    return look(path, image_fps).video


def look(path: str | Path, image_fps: float) -> Probe:
    """As :func:`probe`, with the end of the readable part and the damage."""
    path = absolute(path)
    with reading(path):
        return _look(path, image_fps)


def _look(path: Path, image_fps: float) -> Probe:
    if os.path.isdir(path):  # path.is_dir() raises for names that are too long and folders that may not be read
        folder = read_image_folder(path, image_fps)
        return Probe(folder_video(folder), folder.timeline.end)
    facts = scan(path)
    damaged = tuple(float(facts.timeline.times[index]) for index in sorted(facts.timeline.damaged))
    return Probe(file_video(facts, file_fingerprint(facts.path)), facts.timeline.end, damaged)


def file_video(facts: Scan, fingerprint: str) -> Video:
    """The facts of a scanned file."""
    timeline = facts.timeline
    return Video(
        path=path_text(facts.path),
        fingerprint=fingerprint,
        duration=timeline.declared_end,
        fps=len(timeline.times) / (timeline.end - float(timeline.times[0])),
        frame_count=max(facts.frame_count, facts.declared_frames) if timeline.is_truncated else facts.frame_count,
        width=facts.width,
        height=facts.height,
        is_even=timeline.is_even,
        start=float(timeline.times[0]),
    )


def folder_video(folder: ImageFolder) -> Video:
    """The facts of a folder of images."""
    timeline = folder.timeline
    return Video(
        path=path_text(folder.path),
        fingerprint=files_fingerprint(folder.files, timeline.times.tolist()),
        duration=timeline.end,
        fps=len(timeline.times) / (timeline.end - float(timeline.times[0])),
        frame_count=len(timeline.times),
        width=folder.width,
        height=folder.height,
        start=float(timeline.times[0]),
        is_even=timeline.is_even,
    )
