"""A loop of stock ``generate``, as a user of transformers writes it: each question with the whole prompt, by itself.

Its inputs are on the device already; preparing frames is left out. Before it is measured it has to write as many tokens
once: cuDNN's attention is planned anew for each length, which takes tens of milliseconds a step the first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.families.seam import FrameShape
from scripts.speed.machine import Measured, measured


def inputs(network: Any, ids: Sequence[int], shapes: Sequence[FrameShape], picture: int) -> dict[str, torch.Tensor]:
    """Arguments of ``generate`` for one prompt over random pixels.

    Args:
        network: a transformers model.
        ids: of the prompt.
        shapes: of its frames.
        picture: the id that stands for a token of a frame.
    """
    device, dtype = network.device, network.dtype
    row = torch.tensor([list(ids)], device=device)
    given: dict[str, torch.Tensor] = {"input_ids": row, "attention_mask": torch.ones_like(row)}
    kind, first = network.config.model_type, shapes[0]
    if kind in ("qwen2_vl", "qwen2_5_vl"):
        patch = network.config.vision_config.patch_size
        grid = (1, first.height // patch, first.width // patch)
        numbers = 3 * network.config.vision_config.temporal_patch_size * patch**2
        given["mm_token_type_ids"] = (row == picture).int()
        given["pixel_values"] = torch.randn(len(shapes) * first.patches, numbers, dtype=dtype, device=device)
        given["image_grid_thw"] = torch.tensor([grid] * len(shapes), device=device)
        return given
    pixels = torch.randn(len(shapes), 3, first.height, first.width, dtype=dtype, device=device)
    return given | ({"pixel_values": pixels} if kind == "aria" else {"pixel_values_videos": pixels[None]})


def answer(network: Any, prompts: Sequence[dict[str, torch.Tensor]], tokens: int) -> None:
    """One prompt after another."""
    for given in prompts:
        network.generate(**given, max_new_tokens=tokens, do_sample=False, pad_token_id=0)


def measured_loop(network: Any, prompts: Sequence[dict[str, torch.Tensor]], tokens: int, device: str) -> Measured:
    """Time the loop once; it is not profiled."""
    return measured(lambda: answer(network, prompts, tokens), device, repeats=False, profiles=False)
