"""Candidate frames, made small as they come, so that a window of them is a few megabytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.domain import Frame, FrameSource, Video
from pipeline.models.qwen_pixels import UNIT, FrameScale
from pipeline.video.timeline import candidate_times

if TYPE_CHECKING:
    from pipeline.models.qwen_pixels import Pixels


@dataclass(frozen=True)
class FrameSize:
    """Pixels of every frame that the model sees, whatever the shape of the video."""

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


@dataclass(frozen=True)
class Candidate:
    """A frame that may be chosen."""

    time: float
    """Its own timestamp in seconds."""
    pixels: Pixels
    """RGB ``[height, width, 3]`` of the configured size."""


def candidates(video: Video, frames: FrameSource, fps: float, size: FrameSize) -> Iterator[Candidate]:
    """``fps`` frames a second of the whole video, resized as PIL's bicubic filter does it.

    A picture that stays on screen for several of these seconds is one candidate.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    from PIL import Image

    for frame in distinct(video, frames, fps):
        image = Image.fromarray(frame.pixels).resize((size.width, size.height), Image.Resampling.BICUBIC)
        yield Candidate(frame.time, np.asarray(image))


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
