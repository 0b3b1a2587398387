"""Pixels of GenS and Aria: a frame is brought to 490 on its longer side, and padded to a square; GenS shrinks it first.

Source: ``inference.py`` and ``siglip_navit_490.py`` of the GenS authors (github.com/yaolinli/GenS). Their two resizes
are not one: the second stretches a 16:9 frame to 490 x 336, and starts from the rounded result of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import FramesError
from pipeline.models.yi_vl_config import CANVAS

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[np.uint8]

SHORTEST = 336
"""Pixels of the shorter side at least."""


def shrink(pixels: Pixels) -> Pixels:
    """A frame as it is put on the canvas.

    Args:
        pixels: RGB ``[height, width, 3]`` of any size.

    Returns:
        RGB; the longer side has 490 pixels, the shorter 336 to 490.

    Raises:
        FramesError: one side is more than 490 times the other.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    if max(image.size) > CANVAS:
        ratio = min(CANVAS / image.width, CANVAS / image.height)
        size = int(image.width * ratio), int(image.height * ratio)
        if min(size) < 1:
            raise FramesError(
                f"A frame of {image.height} x {image.width} pixels is too long a strip for GenS.",
                "Take another sampler=NAME for it, or the video out of the questions.",
            )
        image = image.resize(size, Image.Resampling.BICUBIC)
    return fitted(np.asarray(image))


def fitted(pixels: Pixels) -> Pixels:
    """A frame as Aria's own processor puts it on the canvas: in one resize.

    Args:
        pixels: RGB ``[height, width, 3]`` of any size.

    Returns:
        RGB; the longer side has 490 pixels, the shorter 336 to 490.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    scale = CANVAS / max(image.size)
    if image.width >= image.height:
        size = CANVAS, max(int(image.height * scale), SHORTEST)
    else:
        size = max(int(image.width * scale), SHORTEST), CANVAS
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def on_canvas(frames: Sequence[Pixels], like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames as the vision tower takes them, and where on the canvas they are.

    Args:
        frames: from :func:`shrink` or :func:`fitted`.
        like: whose device and dtype the pixels get.

    Returns:
        ``[frames, 3, 490, 490]`` from -1 to 1, black beside the frame, and ``[frames, 490, 490]``, true on the frame.
    """
    import torch

    canvas = np.zeros((len(frames), CANVAS, CANVAS, 3), np.uint8)
    inside = torch.zeros(len(frames), CANVAS, CANVAS, dtype=torch.bool)
    for place, frame in enumerate(frames):
        height, width, _ = frame.shape
        canvas[place, :height, :width] = frame
        inside[place, :height, :width] = True
    # Looked up instead of computed: a GPU divides by a constant in another rounding.
    values = ((torch.arange(256, dtype=torch.float32) / 255 - 0.5) / 0.5).to(like)
    pixels: Any = values[torch.from_numpy(canvas).to(like.device).long()]
    return pixels.permute(0, 3, 1, 2).contiguous(), inside.to(like.device)
