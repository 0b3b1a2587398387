"""Candidate frames, made small as they come, so that a window of them is a few megabytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.domain import FrameSource, Video
from pipeline.errors import ConfigError
from pipeline.models.qwen_pixels import UNIT
from pipeline.video.timeline import candidate_times

if TYPE_CHECKING:
    from pipeline.models.qwen_pixels import Pixels


@dataclass(frozen=True)
class FrameSize:
    """Pixels of every frame that the model sees, whatever the shape of the video."""

    height: int
    width: int

    def __post_init__(self) -> None:
        for side, pixels in (("height", self.height), ("width", self.width)):
            if pixels < UNIT or pixels % UNIT:
                raise ConfigError(
                    f"Frames of {pixels} pixels in {side} cannot be cut into tokens of {UNIT} x {UNIT} pixels.",
                    f"Take a multiple: sampler.frame.{side}={max(UNIT, round(pixels / UNIT) * UNIT)}.",
                )


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

    last: int | None = None
    for frame in frames.frames_at(candidate_times(video, fps)):
        if frame.index != last:
            image = Image.fromarray(frame.pixels).resize((size.width, size.height), Image.Resampling.BICUBIC)
            yield Candidate(frame.time, np.asarray(image))
        last = frame.index
