"""Frames of CLIP, SigLIP and SigLIP 2 are, to the last bit, what the stock processors make, and need no torch."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedding_samplers import built
from tiny_encoders import write_clip, write_siglip, write_siglip2, write_siglip2_naflex
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from pipeline.errors import CheckpointError
from pipeline.families.seam import Pixels

pytestmark = pytest.mark.moving

SHAPES = ((90, 160), (161, 89), (97, 97), (5, 7), (3, 40), (1, 1), (28, 28), (331, 17), (360, 641))
"""Wide, high, odd, tiny, a strip, and the size of the tower itself."""
SETTINGS = "preprocessor_config.json"
CASES: dict[str, tuple[str, Callable[..., Path], Any, dict[str, Any]]] = {
    "clip": ("clip", write_clip, CLIPImageProcessorPil, {}),
    "clip, smaller than its crop": ("clip", write_clip, CLIPImageProcessorPil, {"size": 21, "resample": 2}),
    "clip, a square": ("clip", write_clip, CLIPImageProcessorPil, {"size": {"height": 28, "width": 28}}),
    "siglip": ("siglip", write_siglip, SiglipImageProcessorPil, {}),
    "siglip2": ("siglip2", write_siglip2, SiglipImageProcessorPil, {}),
    "naflex": ("siglip2", write_siglip2_naflex, Siglip2ImageProcessorPil, {}),
    "naflex, more patches": ("siglip2", write_siglip2_naflex, Siglip2ImageProcessorPil, {"max_num_patches": 49}),
}


def frames() -> list[Pixels]:
    dice = np.random.default_rng(0)
    noise = [dice.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]
    grey = np.broadcast_to(np.linspace(0, 255, 120).astype(np.uint8)[None, :, None], (70, 120, 3))
    return [*noise, grey.copy(), np.full((64, 48, 3), 255, np.uint8), np.zeros((48, 64, 3), np.uint8)]


def changed(folder: Path, **settings: Any) -> Path:
    path = folder / SETTINGS
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | settings), encoding="utf-8")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_pixels_are_the_stock_processors(case: str, tmp_path: Path) -> None:
    name, write, stock_class, settings = CASES[case]
    folder = changed(write(tmp_path / "checkpoint"), **settings)
    encoder = built(name, folder, tmp_path)._encoder
    stock = stock_class.from_pretrained(folder)
    theirs = [stock(images=[frame], return_tensors="pt", input_data_format="channels_last") for frame in frames()]
    ours = encoder.arguments([encoder.prepare(frame) for frame in frames()])
    assert set(ours) == set(stock.model_input_names)
    for key, tensor in ours.items():
        wanted = torch.cat([one[key] for one in theirs])
        assert tensor.dtype == wanted.dtype
        assert torch.equal(tensor, wanted)


def test_what_prepares_frames_needs_no_torch(tmp_path: Path) -> None:
    packed = []
    for case in ("clip", "siglip", "naflex"):
        name, write, _, _ = CASES[case]
        encoder = built(name, write(tmp_path / case), tmp_path)._encoder
        packed.append(pickle.dumps(encoder.prepare))
    code = """
import pickle, sys
import numpy as np
for packed in pickle.load(sys.stdin.buffer):
    pickle.loads(packed)(np.zeros((90, 160, 3), np.uint8))
    print(sorted({"torch", "transformers"} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(packed), capture_output=True, check=True)
    assert told.stdout.decode().split() == ["[]"] * len(packed)


@pytest.mark.parametrize(
    ("case", "settings", "named"),
    [
        ("clip", {"size": {"shortest_edge": 28, "longest_edge": 60}}, "longest_edge"),
        ("clip", {"do_center_crop": False}, "aspect"),
        ("clip", {"do_resize": False}, "do_resize"),
        ("siglip", {"do_normalize": False}, "do_normalize"),
        ("siglip", {"resample": 9}, "resample"),
        ("naflex", {"patch_size": 0}, "patch_size"),
    ],
)
def test_settings_of_another_rule_are_refused(case: str, settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    name, write, _, _ = CASES[case]
    folder = changed(write(tmp_path / "checkpoint"), **settings)
    with pytest.raises(CheckpointError, match=f"image settings.*{named}") as raised:
        built(name, folder, tmp_path)._encoder  # noqa: B018
    assert SETTINGS in str(raised.value)
