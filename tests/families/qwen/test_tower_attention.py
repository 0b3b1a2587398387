"""One call for all pictures of a size against the stock loop over them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_qwen3_vl
import torch
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

from pipeline.families.qwen.model import attend_frames_at_once

pytestmark = pytest.mark.moving

FAMILIES: dict[str, tuple[type[Any], Callable[[Path], Path]]] = {
    "qwen2_vl": (Qwen2VLForConditionalGeneration, tiny.write_qwen2_vl),
    "qwen2_5_vl": (Qwen2_5_VLForConditionalGeneration, tiny.write_qwen2_5_vl),
    "qwen3_vl": (Qwen3VLForConditionalGeneration, tiny_qwen3_vl.write_qwen3_vl),
}
ONE_SIZE = [[1, 8, 12]] * 5
SEVERAL = [[1, 8, 12], [1, 8, 12], [1, 4, 6], [3, 6, 8], [1, 8, 12]]


@pytest.fixture(params=FAMILIES)
def tower(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    kind, write = FAMILIES[request.param]
    return kind.from_pretrained(write(tmp_path), dtype=torch.float32).model.visual.eval()


def looked_at(tower: Any, grids: list[list[int]]) -> torch.Tensor:
    grid = torch.tensor(grids)
    width = tower.patch_embed.proj.weight[0].numel()
    values = torch.randn(int(grid.prod(-1).sum()), width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        made: torch.Tensor = tower(values, grid_thw=grid).pooler_output
    return made


@pytest.mark.parametrize("grids", [ONE_SIZE, SEVERAL], ids=["one size", "several sizes"])
def test_pictures_look_as_they_do_one_by_one(
    tower: Any, grids: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = looked_at(tower, grids)
    attend_frames_at_once(tower)
    calls: list[int] = []
    plain = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *given, **named: (calls.append(len(given[0])), plain(*given, **named))[1],
    )
    ours = looked_at(tower, grids)
    assert (ours - stock).abs().max() < 1e-5
    assert stock.abs().max() > 0.01
    if grids is ONE_SIZE and not hasattr(tower, "window_size"):
        assert calls == [5] * len(tower.blocks)


def test_another_attention_is_left_alone(tmp_path: Path) -> None:
    model = Qwen2VLForConditionalGeneration.from_pretrained(tiny.write_qwen2_vl(tmp_path), attn_implementation="eager")
    tower: Any = model.model.visual
    attend_frames_at_once(tower)
    assert "forward" not in tower.blocks[0].attn.__dict__


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="the gain is that of a GPU")
@pytest.mark.parametrize("frames", [64, 256])
def test_the_tower_is_faster_at_its_real_size(frames: int) -> None:
    """Qwen2-VL's vision tower, random weights, bfloat16, frames of 336 x 560 pixels (240 tokens); prints the ratio."""
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

    torch.manual_seed(0)
    with torch.device("cuda"):
        tower = Qwen2VisionTransformerPretrainedModel._from_config(Qwen2VLConfig().vision_config, dtype=torch.bfloat16)
    grid = torch.tensor([[1, 24, 40]] * frames, device="cuda")
    values = torch.randn(frames * 24 * 40, 1176, device="cuda", dtype=torch.bfloat16)

    def seconds() -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        with torch.inference_mode():
            tower(values, grid_thw=grid)
        torch.cuda.synchronize()
        return time.perf_counter() - began

    seconds()
    stock = min(seconds() for _ in range(3))
    attend_frames_at_once(tower)
    seconds()
    ours = min(seconds() for _ in range(3))
    print(f"{frames} frames: {stock:.3f} s one by one, {ours:.3f} s at once, x{stock / ours:.2f}", file=sys.stderr)
    assert ours < stock
