"""The ways in which files count time, and their conversion to seconds of the video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import Field

from pipeline.domain import FASTEST, LARGEST_SCORE, LONGEST, FrameSource
from pipeline.errors import InputError
from pipeline.video.unseen import is_seen

FrameNumber = Annotated[int, Field(ge=0, le=2**53)]
"""A native frame number; some files write ``25.0``. No video has more frames than the limit."""
Second = Annotated[float, Field(ge=-LONGEST, le=LONGEST, allow_inf_nan=False)]
"""A second of a video, not yet checked against its length."""


Rate = Annotated[float, Field(ge=1 / LONGEST, le=FASTEST, allow_inf_nan=False)]
"""Frames a second."""
Score = Annotated[float, Field(ge=-LARGEST_SCORE, le=LARGEST_SCORE, allow_inf_nan=False)]
"""Of a frame: an expert's grade, a similarity or a logit."""


class Moments(Protocol):
    """Moments of a video that is not known yet."""

    def seconds(self, frames: FrameSource) -> tuple[float, ...]:
        """The moments as seconds of the video of ``frames``, in the order of the file, not checked against its end.

        Raises:
            InputError: they cannot be moments of this video.
        """
        ...


@dataclass(frozen=True)
class Seconds:
    """Moments that are stored as seconds."""

    values: tuple[float, ...]

    def seconds(self, frames: FrameSource) -> tuple[float, ...]:
        """The values."""
        return self.values


@dataclass(frozen=True)
class NativeFrames:
    """Native frame numbers from 0."""

    numbers: tuple[int, ...]
    whole_second_stride: bool
    """Whether every number must be a multiple of the video's rate, rounded down. Other numbers mean that the file was
    made from a copy of the video at another rate."""

    def seconds(self, frames: FrameSource) -> tuple[float, ...]:
        """When each of them appears.

        Raises:
            InputError: the rate is not known, or differs from that of the video that the file was made from.
        """
        video = frames.video
        if not is_seen(video):
            raise InputError(
                "native frame numbers mean nothing without the video's own rate, which its annotations do not say",
                "use the videos' own timeline: timeline=videos",
            )
        if self.whole_second_stride:
            # An average rate may be a little below 30 in one reader and a little above in another.
            strides = {max(1, int(video.fps - _RATE_ERROR)), max(1, int(video.fps + _RATE_ERROR))}
            if all(any(number % stride for number in self.numbers) for stride in strides):
                raise InputError(
                    f"the frame numbers are not multiples of {max(strides)}, the whole frames a second of {video.path} "
                    f"({video.fps:.3f})",
                    "use the videos that the file was made from: another encoding has other frame numbers",
                )
        return tuple(frames.times_of(self.numbers))


_RATE_ERROR = 0.01
"""Frames a second."""
