"""Frames on the canvas of GenS, beside transformers' own processor for Aria."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_yi_vl import write_yi_vl

from pipeline.errors import FramesError
from pipeline.families.aria.processor import Canvas, shrink
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import Opened, Prompt

pytestmark = pytest.mark.moving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_yi_vl(tmp_path_factory.mktemp("yi_vl"))


def opened(folder: Path, dtype: Any = "float32") -> Opened:
    return Canvas("auto").opened(Checkpoint(str(folder), None, dtype, "eager", "cpu"))


def fed(made: Opened, pixels: np.ndarray) -> dict[str, torch.Tensor]:
    """What the network gets of one frame."""
    processor = made.processor
    prompt = Prompt(np.array([processor.picture_token]), (processor.prepare(pixels),), 1)
    return made.load().arguments(prompt, prompt.tokens)


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
def test_bit_for_bit_what_the_stock_processor_makes_of_the_shrunk_frame(folder: Path, shape: tuple[int, int]) -> None:
    from transformers.models.aria.image_processing_pil_aria import AriaImageProcessorPil

    image = Image.fromarray(picture(*shape))
    if max(image.size) > 490:
        ratio = min(490 / image.width, 490 / image.height)
        image = image.resize((int(image.width * ratio), int(image.height * ratio)))
    stock = AriaImageProcessorPil(max_image_size=490, min_image_size=336)(images=[image], return_tensors="pt")
    ours = fed(opened(folder), picture(*shape))
    assert torch.equal(ours["pixel_values"], stock["pixel_values"])
    assert torch.equal(ours["pixel_mask"], stock["pixel_mask"].bool())


def test_beside_the_frame_is_black(folder: Path) -> None:
    ours = fed(opened(folder, "bfloat16"), np.full((100, 200, 3), 255, np.uint8))
    pixels, inside = ours["pixel_values"], ours["pixel_mask"]
    assert pixels.dtype == torch.bfloat16
    assert pixels[0, :, ~inside[0]].unique().tolist() == [-1.0]
    assert pixels[0, :, inside[0]].unique().tolist() == [1.0]


def test_a_strip_is_refused() -> None:
    with pytest.raises(FramesError, match="strip"):
        shrink(picture(1, 1000))
