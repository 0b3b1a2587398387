"""Candidate frames, made small as they come, so that a window of them is a few megabytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from pipeline.domain import Frame, FrameSource, Video
from pipeline.models.qwen_pixels import UNIT, FrameScale
from pipeline.video.timeline import candidate_times

if TYPE_CHECKING:
    from pipeline.models.qwen_pixels import Pixels


@runtime_checkable
class FrameForm(Protocol):
    """How a family of models takes a frame; a dataclass, whose fields are part of what decides the scores."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def tokens(self) -> int:
        """Of a frame in the prompt, without its label."""
        ...

    def shrunk(self, pixels: Pixels) -> Pixels:
        """A frame as it is kept until the model sees it.

        Args:
            pixels: RGB ``[height, width, 3]`` as decoded.

        Raises:
            FramesError: a frame of this shape cannot be shown to the model.
        """
        ...


@dataclass(frozen=True)
class FrameSize:
    """For Qwen2-VL and Qwen2.5-VL: pixels of every frame that the model sees, whatever the shape of the video."""

    height: int
    width: int

    def __post_init__(self) -> None:
        _ = self.scale

    @property
    def scale(self) -> FrameScale:
        """The same for the model.

        Raises:
            ConfigError: frames of this size cannot be cut into tokens.
        """
        return FrameScale(UNIT**2, UNIT**2, (self.height, self.width))

    @property
    def tokens(self) -> int:
        """One for each 28 x 28 pixels."""
        return self.scale.tokens(self.height, self.width)

    def shrunk(self, pixels: Pixels) -> Pixels:
        """The frame in this size, resized as PIL's bicubic filter does it."""
        from PIL import Image

        return np.asarray(Image.fromarray(pixels).resize((self.width, self.height), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Candidate:
    """A frame that may be chosen."""

    time: float
    """Its own timestamp in seconds."""
    pixels: Pixels
    """RGB ``[height, width, 3]`` in the configured form."""


def candidates(video: Video, frames: FrameSource, fps: float, form: FrameForm) -> Iterator[Candidate]:
    """``fps`` frames a second of the whole video, in the form that the model takes.

    A picture that stays on screen for several of these seconds is one candidate.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    for frame in distinct(video, frames, fps):
        yield Candidate(frame.time, form.shrunk(frame.pixels))


def distinct(video: Video, frames: FrameSource, fps: float) -> Iterator[Frame]:
    """``fps`` frames a second of the whole video, as they are; a picture that stays on screen comes once.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    last: int | None = None
    for frame in frames.frames_at(candidate_times(video, fps)):
        if frame.index != last:
            yield frame
        last = frame.index
