"""Which frame is on screen at a given second."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.domain import Video
from pipeline.errors import ConfigError, TruncatedVideoError, VideoError

# Seconds by which a request may miss a timestamp: rounding of k / fps, and of containers that count in milliseconds.
TOLERANCE = 1e-3
MOST_A_SECOND = 1000.0
"""Candidate frames: more than any video shows."""


@dataclass(frozen=True)
class Timeline:
    """The presentation times of a video's frames, known without decoding them."""

    times: npt.NDArray[np.float64]
    """Seconds of the video, ``[frames]``, ascending: element ``i`` is when native frame ``i`` appears."""
    end: float
    """Second at which the last readable frame leaves the screen."""
    declared_end: float
    """The end as the container declares it: later than ``end`` where the file was cut short."""
    damaged: frozenset[int] = frozenset()
    """Native indices of frames with parts that the container shows to be lost."""

    @property
    def is_even(self) -> bool:
        """Whether no frame appears half a frame or more away from where the average rate has it."""
        first = float(self.times[0])
        step = (self.end - first) / len(self.times)
        return bool(np.abs(self.times - (first + step * np.arange(len(self.times)))).max() < step / 2)

    @property
    def is_truncated(self) -> bool:
        """Whether frames are missing at the end."""
        return self.declared_end > self.end + TOLERANCE

    def nearest_index(self, second: float) -> int:
        """As :meth:`index_at`; the last frame for a second after the end."""
        found = int(np.searchsorted(self.times, second + TOLERANCE, side="right")) - 1
        return min(max(found, 0), len(self.times) - 1)

    def index_at(self, second: float) -> int:
        """Native index of the frame on screen at ``second``; the first one for a second before it.

        Raises:
            TruncatedVideoError: the frame belongs to a part of the file that is missing.
            VideoError: the second is after the end of the video.
        """
        if second < self.end + TOLERANCE:
            index = self.nearest_index(second)
            if index in self.damaged:
                raise TruncatedVideoError(
                    f"the file is damaged: parts of the picture at second {self.times[index]:.3f} are lost",
                    "fetch or copy the file again, or ask only for seconds before the damage",
                )
            return index
        if self.is_truncated:
            raise TruncatedVideoError(
                f"the file is cut at {self.end:.2f} s, before the {second:.2f} s asked for; "
                f"whole, it lasts {self.declared_end:.2f} s or more",
                "fetch or copy the file again, or ask only for seconds before the cut",
            )
        raise VideoError(
            f"second {second:.3f} is after the end of the video at {self.end:.3f} s",
            "check that the times belong to this video: seconds on the clock that players show",
        )


def is_rate(fps: float) -> bool:
    """Whether this is a valid number of candidate frames a second."""
    return 0 < fps <= MOST_A_SECOND


def candidate_times(video: Video, fps: float) -> tuple[float, ...]:
    """``0, 1/fps, 2/fps, ...`` seconds after the first frame, all before the end of the video; at least one.

    Raises:
        ConfigError: ``fps`` is not a positive number.
    """
    if not is_rate(fps):
        raise ConfigError(
            f"{fps} candidate frames a second is not a rate", "set a positive rate, such as sampler.fps=1"
        )
    count = max(math.ceil((video.duration - video.start - TOLERANCE) * fps), 1)
    return tuple(video.start + k / fps for k in range(count))
