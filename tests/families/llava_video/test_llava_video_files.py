"""LLaVA-Video in the other ways that its files may lie: its answers stay the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asking import answered
from safetensors.torch import load_file, save_file
from tiny_llava_video import TOWER, VISION, VISION_LAYERS, write_llava_video
from wordings import wording

from pipeline.answerers import AnswerRequest
from pipeline.domain import Frame, Question, Video
from pipeline.errors import CheckpointError
from pipeline.families.llava_video.answerer import LlavaVideo
from pipeline.families.loading.checkpoint import Checkpoint

pytestmark = pytest.mark.moving


def said(folder: Path) -> str:
    pixels = np.random.default_rng(1).integers(0, 255, (2, 45, 80, 3), dtype=np.uint8)
    shown = tuple(Frame(1.25 * i, i, pixels[i]) for i in range(2))
    video = Video("clip.mp4", "0f", 60.0, 10.0, 600, 80, 45)
    asked = AnswerRequest(Question("q", "clip.mp4", "Which colour?", ("red", "blue")), video, shown)
    checkpoint = Checkpoint(str(folder), None, "float32", "sdpa", "cpu")
    [answer] = answered(LlavaVideo("llava", checkpoint, "checkpoint", "selected", wording("letter"), 8), [asked])
    return answer.text


def taken_out(folder: Path) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        made |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    return made


def in_bin(folder: Path) -> None:
    made = taken_out(folder)
    names, index = sorted(made), {}
    for shard in range(3):
        file = f"pytorch_model-{shard + 1:05}-of-00003.bin"
        torch.save({name: made[name] for name in names[shard::3]}, folder / file)
        index |= dict.fromkeys(names[shard::3], file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def in_one_file(folder: Path) -> None:
    save_file(taken_out(folder), folder / "model.safetensors", metadata={"format": "pt"})


def with_a_whole_tower(folder: Path) -> None:
    """With the head and the last layer, which the authors' loader takes out: both must not be used."""
    made = taken_out(folder)
    unread = f"{TOWER}.encoder.layers.{VISION_LAYERS}."
    for name in [name for name in made if name.startswith(f"{TOWER}.encoder.layers.0.")]:
        made[name.replace(f"{TOWER}.encoder.layers.0.", unread)] = torch.randn_like(made[name])
    made[f"{TOWER}.head.probe"] = torch.randn(1, 1, VISION)
    save_file(made, folder / "model.safetensors", metadata={"format": "pt"})


def with_the_settings_of_training(folder: Path) -> None:
    path = folder / "config.json"
    more = {
        "_name_or_path": "/home/somebody/llava-video",
        "image_grid_pinpoints": [[384, 384]],
        "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model",
        "pos_skipping_range": 4096,
        "rope_scaling": {"factor": 4.0, "type": "linear"},
        "vision_tower_pretrained": None,
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def without_generation_settings(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


@pytest.mark.parametrize(
    "change", [in_bin, in_one_file, with_a_whole_tower, with_the_settings_of_training, without_generation_settings]
)
def test_the_same_model_in_other_files(tmp_path: Path, change: Callable[[Path], None]) -> None:
    stock, other = write_llava_video(tmp_path / "stock"), write_llava_video(tmp_path / "other")
    change(other)
    assert said(other) == said(stock)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_held_exactly(tmp_path: Path, kind: torch.dtype) -> None:
    """What is stored in 16 bits answers as the same numbers stored in 32."""
    halves, singles = tmp_path / "halves", tmp_path / "singles"
    for folder in (halves, singles):
        made: dict[str, Any] = {name: tensor.to(kind) for name, tensor in taken_out(write_llava_video(folder)).items()}
        if folder == singles:
            made = {name: tensor.float() for name, tensor in made.items()}
        save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
    assert said(halves) == said(singles)


def test_a_layer_in_the_middle_that_is_not_there(tmp_path: Path) -> None:
    folder = write_llava_video(tmp_path)
    made = taken_out(folder)
    kept = {name: tensor for name, tensor in made.items() if not name.startswith(f"{TOWER}.encoder.layers.0.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="16 missing"):
        said(folder)
