"""The ways in which files count time, each turned into seconds by what is known of the video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipeline.domain import Video
from pipeline.errors import InputError
from pipeline.selection.native import native_time
from pipeline.selection.uniform import UniformVariant, spread
from pipeline.video.unseen import is_seen


class Moments(Protocol):
    """Some moments of a video that is not known yet."""

    def seconds(self, video: Video) -> tuple[float, ...]:
        """The same on ``video``, in the order of the file, not yet checked against the video's end.

        Raises:
            InputError: they cannot be moments of this video.
        """
        ...


@dataclass(frozen=True)
class Seconds:
    """Seconds since the first frame, as they are."""

    values: tuple[float, ...]

    def seconds(self, video: Video) -> tuple[float, ...]:
        """The values."""
        return self.values


@dataclass(frozen=True)
class NativeFrames:
    """Native frame numbers from 0, at the video's average rate."""

    numbers: tuple[float, ...]
    """Whole numbers, though some files write them with a point."""
    whole_second_stride: bool
    """Whether every number must be a multiple of the video's rate cut to a whole number, which tells a file that was
    made from the same video at another rate."""

    def seconds(self, video: Video) -> tuple[float, ...]:
        """Number / rate.

        Raises:
            InputError: the rate is not known, or is another one than that of the video the file was made from.
        """
        if not is_seen(video):
            raise InputError(
                "native frame numbers mean nothing without the video's own rate, which its annotations do not say",
                "let the videos be looked at: timeline=videos",
            )
        if self.whole_second_stride:
            # An average rate comes out a little beside 30 in one reader and a little above in another.
            strides = {max(1, int(video.fps - _RATE_ERROR)), max(1, int(video.fps + _RATE_ERROR))}
            if all(any(number % stride for number in self.numbers) for stride in strides):
                raise InputError(
                    f"the frame numbers are no multiples of {max(strides)}, the whole frames a second of {video.path} "
                    f"({video.fps:.3f})",
                    "use the videos that the file was made from: another encoding has other frame numbers",
                )
        return tuple(native_time(round(number), video) for number in self.numbers)


_RATE_ERROR = 0.01
"""Frames a second."""


@dataclass(frozen=True)
class UniformFrames:
    """Positions among so many frames spread evenly over the video."""

    positions: tuple[int, ...]
    frames: int
    spread: UniformVariant

    def seconds(self, video: Video) -> tuple[float, ...]:
        """The time of the native frame at each position.

        Raises:
            InputError: there are not so many frames.
        """
        grid = spread(video.frame_count, self.frames, self.spread)
        for position in self.positions:
            if not 0 <= position < len(grid):
                raise InputError(
                    f"position {position} is not one of the {len(grid)} frames that are spread over {video.path}",
                    "set how many frames the file was made from: sampler.format.frames=...",
                )
        return tuple(native_time(grid[position], video) for position in self.positions)
