"""A video that consists of chosen frames of another one, for a sampler that is to score these alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.domain import Frame, FrameSource, PreparedPictures, Video
from pipeline.identity import digest
from pipeline.video.preparing import prepared_pictures
from pipeline.video.timeline import TOLERANCE


class KeptFrames:
    """Each kept frame is shown for a second, and keeps its own time and index.

    Args:
        video: the whole one.
        frames: its frames.
        times: seconds of the kept ones, ascending.
    """

    def __init__(self, video: Video, frames: FrameSource, times: tuple[float, ...]) -> None:
        self._frames = frames
        self._times = times
        self.video = replace(
            video,
            fingerprint=digest({"video": video.fingerprint, "times": times}),
            start=0.0,
            duration=float(len(times)),
            fps=1.0,
            frame_count=len(times),
        )

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        """Each with its time and index in the whole video."""
        return self._frames.frames_at([self._kept(second) for second in seconds])

    def prepared_at(self, seconds: Sequence[float], prepare: Callable[[Frame], Any]) -> PreparedPictures:
        """Each with its time and index in the whole video."""
        return prepared_pictures(self._frames, [self._kept(second) for second in seconds], prepare)

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        """In the whole video."""
        return self._frames.indices_at([self._kept(second) for second in seconds])

    def times_of(self, indices: Sequence[int]) -> list[float]:
        """In the whole video, as the first sampler is given them."""
        return self._frames.times_of(indices)

    def _kept(self, second: float) -> float:
        return self._times[min(int(second + TOLERANCE), len(self._times) - 1)]
