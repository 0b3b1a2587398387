"""Videos that are known only from annotations: their length, and nothing of their pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.domain import Frame, Video
from pipeline.errors import VideoError
from pipeline.video.timeline import TOLERANCE

CLOCK = 600.0
"""Assumed frames a second of an unseen video, whose own rate is not known. A multiple of the usual 24, 25, 30 and 60,
and so fine that spreading frames over it is spreading them over the continuous duration."""


def unseen_video(path: str, duration: float) -> Video:
    """The video of an annotation: ``duration`` in seconds, no fingerprint, no size, frames on :data:`CLOCK`."""
    return Video(path, "", duration, CLOCK, max(1, round(duration * CLOCK)), 0, 0)


def is_seen(video: Video) -> bool:
    """Whether the file was read, so that its rate and frame numbers are its own."""
    return bool(video.fingerprint)


@dataclass(frozen=True)
class UnseenFrames:
    """The frame source of an unseen video. It has no pictures."""

    video: Video

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        """Indices at the assumed rate."""
        start, fps, last = self.video.start, self.video.fps, self.video.frame_count - 1
        return [min(max(math.floor((each - start + TOLERANCE) * fps), 0), last) for each in seconds]

    def times_of(self, indices: Sequence[int]) -> list[float]:
        """Seconds at the assumed rate."""
        return [self.video.start + index / self.video.fps for index in indices]

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        """No frames for no seconds.

        Raises:
            VideoError: there is a second to read.
        """
        if seconds:
            raise VideoError(f"{self.video.path} was not opened, so it has no pictures", "open it with a reader")
        return iter(())
