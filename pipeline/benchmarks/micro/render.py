"""Draws the frames of a :class:`~pipeline.benchmarks.micro.world.Plan` with numpy and Pillow."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipeline.benchmarks.micro.world import SIZE, Event, Plan, Scene

Pixels = npt.NDArray[np.uint8]

COLOR_VALUES: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "orange": (240, 130, 20),
    "yellow": (238, 225, 40),
    "green": (35, 175, 55),
    "cyan": (40, 215, 225),
    "blue": (40, 75, 230),
    "purple": (160, 50, 205),
    "white": (243, 243, 243),
}
_OVERSAMPLING = 4


def frame_at(plan: Plan, second: float) -> Pixels:
    """The picture at this second: ``[SIZE, SIZE, 3]``, RGB."""
    scene = next(scene for scene in reversed(plan.scenes) if scene.start <= second)
    backdrop = background(scene)
    event = next((event for event in plan.events if event.visible(second)), None)
    return backdrop if event is None else _paste(backdrop, event, second)


@lru_cache(maxsize=8)
def background(scene: Scene) -> Pixels:
    """Dim and nearly grey, so that no background can be taken for one of the colours. Read-only."""
    random = np.random.Generator(np.random.PCG64(scene.seed))
    base = random.uniform(40, 95) + random.uniform(-9, 9, 3)
    across, down = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    angle = random.uniform(0, 2 * math.pi)
    along = across * math.cos(angle) + down * math.sin(angle)
    contrast = random.uniform(8, 22)
    if scene.kind == "gradient":
        pattern = contrast * along / SIZE
    elif scene.kind == "stripes":
        pattern = contrast / 2 * np.sign(np.sin(along * 2 * math.pi / random.uniform(12, 40)))
    elif scene.kind == "noise":
        coarse = Image.fromarray(random.integers(0, 256, (12, 12), dtype=np.uint8))
        pattern = contrast * (np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), float) / 255 - 0.5)
    else:
        pattern = np.zeros((SIZE, SIZE))
    pixels: Pixels = np.clip(base + pattern[..., None], 0, 255).astype(np.uint8)
    pixels.setflags(write=False)
    return pixels


def _paste(backdrop: Pixels, event: Event, second: float) -> Pixels:
    left, top = corner(event, second)
    cover = stencil(event.thing.shape, event.size)
    pixels = backdrop.copy()
    area = pixels[top : top + event.size, left : left + event.size]
    area[:] = (area * (1 - cover) + np.array(tinted(event)) * cover + 0.5).astype(np.uint8)
    return pixels


def corner(event: Event, second: float) -> tuple[int, int]:
    """Left and top of the box around the event's thing, in pixels."""
    part = (second - event.start) / (event.end - event.start)
    return round(event.x + event.dx * part - event.size / 2), round(event.y + event.dy * part - event.size / 2)


def tinted(event: Event) -> tuple[int, int, int]:
    """The event's colour: red, green and blue."""
    red, green, blue = (
        min(max(value + tint, 0), 255) for value, tint in zip(COLOR_VALUES[event.thing.color], event.tint, strict=True)
    )
    return red, green, blue


@lru_cache(maxsize=256)
def stencil(shape: str, size: int) -> npt.NDArray[np.float64]:
    """How much of each pixel the shape covers: ``[size, size, 1]``, 0 to 1."""
    side = size * _OVERSAMPLING
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse((0, 0, side - 1, side - 1), fill=255)
    elif shape == "ring":
        draw.ellipse((0, 0, side - 1, side - 1), fill=255)
        inset = side * 0.3
        draw.ellipse((inset, inset, side - 1 - inset, side - 1 - inset), fill=0)
    elif shape == "square":
        inset = side * 0.06
        draw.rectangle((inset, inset, side - 1 - inset, side - 1 - inset), fill=255)
    elif shape == "triangle":
        draw.polygon(((side / 2, 0), (side - 1, side - 1), (0, side - 1)), fill=255)
    elif shape == "cross":
        third = side * 0.34
        draw.rectangle((third, 0, side - 1 - third, side - 1), fill=255)
        draw.rectangle((0, third, side - 1, side - 1 - third), fill=255)
    elif shape == "star":
        draw.polygon(_star(side), fill=255)
    cover = np.asarray(image.resize((size, size), Image.Resampling.BOX), float)[..., None] / 255
    cover.setflags(write=False)
    return cover


def _star(side: int) -> tuple[tuple[float, float], ...]:
    middle = side / 2
    corners = []
    for corner in range(10):
        radius = middle * (1.0 if corner % 2 == 0 else 0.42)
        angle = math.pi * corner / 5 - math.pi / 2
        corners.append((middle + radius * math.cos(angle), middle + radius * math.sin(angle)))
    return tuple(corners)
