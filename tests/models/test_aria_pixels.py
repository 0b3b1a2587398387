"""Frames on the canvas of GenS, beside transformers' own processor for Aria."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import FramesError
from pipeline.models.aria_pixels import on_canvas, shrink

pytestmark = pytest.mark.moving


def picture(height: int, width: int) -> np.ndarray:
    dice = np.random.default_rng(height * width)
    return dice.integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((336, 588), (336, 490)),  # 16:9 is stretched: 490 x 280 would keep it
        ((720, 1280), (336, 490)),
        ((1280, 720), (490, 336)),
        ((420, 300), (490, 350)),
        ((480, 640), (367, 490)),
        ((490, 490), (490, 490)),
        ((30, 40), (367, 490)),
        ((10, 10), (490, 490)),
        ((250, 1280), (336, 490)),
    ],
)
def test_sizes(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shrink(picture(*shape)).shape == (*expected, 3)


@pytest.mark.parametrize("shape", [(336, 588), (720, 1280), (1280, 720), (420, 300), (480, 640), (64, 64), (250, 1280)])
def test_bit_for_bit_what_the_stock_processor_makes_of_the_shrunk_frame(shape: tuple[int, int]) -> None:
    from transformers.models.aria.image_processing_pil_aria import AriaImageProcessorPil

    image = Image.fromarray(picture(*shape))
    if max(image.size) > 490:
        ratio = min(490 / image.width, 490 / image.height)
        image = image.resize((int(image.width * ratio), int(image.height * ratio)))
    stock = AriaImageProcessorPil(max_image_size=490, min_image_size=336)(images=[image], return_tensors="pt")
    pixels, inside = on_canvas([shrink(picture(*shape))], like=torch.zeros(()))
    assert torch.equal(pixels, stock["pixel_values"])
    assert torch.equal(inside, stock["pixel_mask"].bool())


def test_beside_the_frame_is_black() -> None:
    pixels, inside = on_canvas(
        [shrink(np.full((100, 200, 3), 255, np.uint8))], like=torch.zeros((), dtype=torch.bfloat16)
    )
    assert pixels.dtype == torch.bfloat16
    assert pixels[0, :, ~inside[0]].unique().tolist() == [-1.0]
    assert pixels[0, :, inside[0]].unique().tolist() == [1.0]


def test_a_strip_is_refused() -> None:
    with pytest.raises(FramesError, match="strip"):
        shrink(picture(1, 1000))
