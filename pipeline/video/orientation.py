"""Orientation of pictures: phones store them as the sensor is held, with a matrix for display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Orientation:
    """How to turn a stored picture into the shown one: swap the axes first, then mirror."""

    swaps: bool
    mirrors_x: bool
    mirrors_y: bool

    def show(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """``[height, width, 3]`` as stored to the same as shown."""
        if self == UPRIGHT:
            return pixels
        if self.swaps:
            pixels = pixels.transpose(1, 0, 2)
        if self.mirrors_x:
            pixels = pixels[:, ::-1]
        if self.mirrors_y:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


UPRIGHT = Orientation(swaps=False, mirrors_x=False, mirrors_y=False)


def read_orientation(frame: Any) -> Orientation:
    """From a PyAV frame's display matrix: ``x' = a x + c y``, ``y' = b x + d y`` (FFmpeg, libavutil/display.h).

    Angles between the quarter turns are taken as the nearest one.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return Orientation(swaps=True, mirrors_x=c < 0, mirrors_y=b < 0)
    return Orientation(swaps=False, mirrors_x=a < 0, mirrors_y=d < 0)
