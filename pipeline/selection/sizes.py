"""Sizes of selected frames: factors on the sides of a frame, and the tokens that frames of such sizes take.

Source: the equal-token arms of LongVideo-Eval, in which N frames at the factor r take what 16 frames of the video's own
size take: N r^2 = 16. That is exact for areas. Models round sides to whole tokens, so tokens are counted here on the
real grid, by the rule that Qwen's families share with others whose frames may have any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from pipeline.domain import LARGEST_SCALE, Video
from pipeline.errors import ConfigError, InputError

_STEPS = 1000
"""A size is a multiple of 1 / 1000, finer than any grid."""


class Size(NamedTuple):
    """Frames of one size."""

    frames: int
    scale: float | None
    """As of :class:`pipeline.domain.SelectedFrame`."""


@runtime_checkable
class SizesFrames(Protocol):
    """A policy that decides how large its frames are."""

    def sizes(self, video: Video) -> Sequence[Size]:
        """Sizes of a full selection from this video.

        Raises:
            InputError: there is none, and the same for every question about the video.
        """
        ...


@dataclass(frozen=True)
class TokenLaw:
    """The tokens of some frames of a stated size: a budget for others, of any number and size.

    Each frame is an image by itself. A video of which the model folds two frames into each grid takes half.
    """

    frames: int
    scale: float
    """Of these frames: 1 is the size in which the video is decoded."""
    unit: int
    """Pixels along one side of a token: 28 in Qwen2-VL and Qwen2.5-VL, 32 in Qwen3-VL."""

    def __post_init__(self) -> None:
        for name, value in (("frames", self.frames), ("unit", self.unit)):
            if value < 1:
                raise ConfigError(f"selection.law.{name}={value} counts no token", _LAW)
        check_scale(self.scale, "law.scale")

    def tokens(self, height: int, width: int, scale: float) -> int:
        """Tokens of a frame of so many pixels: both sides are rounded to whole tokens, at least one."""
        rows, columns = (max(1, round(side * scale / self.unit)) for side in (height, width))
        return rows * columns

    def budget(self, video: Video) -> int:
        """The tokens that there are for a selection from this video."""
        return self.frames * self.tokens(video.height, video.width, self.scale)

    def largest(self, count: int, video: Video, spent: int = 0, least: float = 0.0) -> float:
        """The largest size in which ``count`` frames take no more than is left. No frame is enlarged.

        Args:
            count: how many.
            video: of the frames.
            spent: tokens of other frames.
            least: a size that is not gone below.

        Raises:
            InputError: they take more in any size from ``least`` on.
        """
        room = self.budget(video) - spent
        fits, exceeds = 0, _STEPS + 1
        while exceeds - fits > 1:
            step = (fits + exceeds) // 2
            if count * self.tokens(video.height, video.width, step / _STEPS) <= room:
                fits = step
            else:
                exceeds = step
        if fits and fits / _STEPS >= least:
            return fits / _STEPS
        raise InputError(
            f"{self.frames} frames of {video.width} x {video.height} pixels at {self.scale:g} of their size take "
            f"{self.budget(video)} tokens; {spent} are for other frames, and {count} take "
            f"{count * self.tokens(video.height, video.width, least)} at least",
            f"select fewer frames, or allow more tokens: selection.law.frames={2 * self.frames}",
        )

    def __str__(self) -> str:
        return f"law.frames={self.frames} law.scale={self.scale:g} law.unit={self.unit}"


@runtime_checkable
class KeepsTokenLaw(Protocol):
    """A policy whose selections take no more than a number of tokens."""

    @property
    def law(self) -> TokenLaw:
        """Which says how many."""
        ...


_LAW = "take the tokens of 16 frames as they are: selection.law.frames=16 selection.law.unit=28"


def check_scale(scale: float, key: str) -> None:
    """Refuse what is no size of a frame.

    Raises:
        ConfigError: it is not above 0, or above the largest.
    """
    if not 0 < scale <= LARGEST_SCALE:
        raise ConfigError(f"selection.{key}={scale:g} is no size of a frame", f"half of each side: selection.{key}=0.5")
