"""Draws batches of frames on the device, as they come out of the mp4 files and the image processors.

The same stencils, places and colours as :mod:`pipeline.benchmarks.micro.render`, Pillow's bicubic reduction from 128 to
56 pixels as a matrix, colour at half resolution as h264 stores it, and some noise where the codec leaves its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from pipeline.benchmarks.micro.render import background, corner, stencil, tinted
from pipeline.benchmarks.micro.world import BACKGROUNDS, SHAPES, SIZE, SIZES, Event, Scene
from scripts.micro_training.models import SIDE

_BOX = SIZES[1] + 2
_STENCILS_A_SHAPE = SIZES[1] - SIZES[0] + 1
FIELDS = 7
"""Numbers that describe a frame: background, stencil (-1: none), left, top, red, green, blue."""


def describe(events: Sequence[Event | None], seconds: Sequence[float], scenes: Sequence[int]) -> np.ndarray:
    """What :class:`Pictures` needs to draw these frames: ``[frames, FIELDS]``."""
    rows = np.zeros((len(events), FIELDS), np.int32)
    for row, event, second, scene in zip(rows, events, seconds, scenes, strict=True):
        row[0], row[1] = scene, -1
        if event is not None:
            row[1] = SHAPES.index(event.thing.shape) * _STENCILS_A_SHAPE + event.size - SIZES[0]
            row[2:4] = corner(event, second)
            row[4:7] = tinted(event)
    return rows


def backgrounds(count: int, seed: int) -> np.ndarray:
    """``[count, SIDE, SIDE, 3]`` backgrounds at the models' size."""
    kinds = np.random.default_rng(seed).integers(0, len(BACKGROUNDS), count)
    pictures = [
        background(Scene(0.0, BACKGROUNDS[kind], seed * 1_000_003 + number)) for number, kind in enumerate(kinds)
    ]
    return np.stack([np.asarray(Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for p in pictures])


class Pictures:
    """The stencils and backgrounds, held on one device."""

    def __init__(self, backdrops: np.ndarray, device: str) -> None:
        self.backdrops = torch.from_numpy(backdrops).to(device)
        boxes = np.zeros((len(SHAPES) * _STENCILS_A_SHAPE, _BOX, _BOX), np.float32)
        for number in range(len(boxes)):
            size = SIZES[0] + number % _STENCILS_A_SHAPE
            boxes[number, 1 : size + 1, 1 : size + 1] = stencil(SHAPES[number // _STENCILS_A_SHAPE], size)[..., 0]
        self.boxes = torch.from_numpy(boxes).to(device)
        columns = Image.fromarray(np.eye(SIZE, dtype=np.float32)).resize((SIDE, SIZE), Image.Resampling.BICUBIC)
        self.reduce = torch.from_numpy(np.asarray(columns).T.copy()).to(device)
        self.luma = torch.tensor([0.299, 0.587, 0.114], device=device)

    def draw(self, frames: torch.Tensor, noise: float = 1.0) -> torch.Tensor:
        """``[N, FIELDS]`` to normalised pixels ``[N, 3, SIDE, SIDE]``; ``noise=0`` for the picture as it is."""
        backdrop = self.backdrops[frames[:, 0] % len(self.backdrops)].float()
        fine, coarse = self._covers(frames)
        color = frames[:, None, None, 4:7].float()
        sharp = backdrop + fine[..., None] * (color - backdrop)
        blurred = backdrop + coarse[..., None] * (color - backdrop)
        pixels = blurred + ((sharp - blurred) @ self.luma)[..., None]
        if noise:
            strength = torch.rand(len(frames), 1, 1, 1, device=pixels.device) * 3 * noise
            pixels = pixels + torch.randn_like(pixels[..., :1]) * strength
            pixels = pixels + (torch.rand(len(frames), 1, 1, 3, device=pixels.device) - 0.5) * 6 * noise
        pixels = pixels.clamp(0, 255).round()
        return (pixels / 255 - 0.5).div(0.5).permute(0, 3, 1, 2)

    def _covers(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How much of each pixel the thing covers, at full and at half resolution: ``[N, SIDE, SIDE]`` each."""
        line = torch.arange(SIZE, device=frames.device)
        rows = (line - frames[:, 3:4] + 1).clamp(0, _BOX - 1)
        columns = (line - frames[:, 2:3] + 1).clamp(0, _BOX - 1)
        cover = self.boxes[frames[:, 1].clamp(min=0)[:, None, None], rows[:, :, None], columns[:, None, :]]
        cover = cover * (frames[:, 1] >= 0)[:, None, None]
        halved = torch.nn.functional.avg_pool2d(cover[:, None], 2)
        halved = torch.nn.functional.interpolate(halved, scale_factor=2, mode="bilinear")[:, 0]
        return self.reduce @ cover @ self.reduce.T, self.reduce @ halved @ self.reduce.T
