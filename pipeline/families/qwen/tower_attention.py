"""Attention of the Qwen vision towers over pictures of one size in one call.

The towers attend within each picture, and get all pictures of a call in one sequence. Where no flash attention is there
to part them, transformers cuts the sequence and attends in a Python loop, picture by picture in every layer: for 256
frames and 32 layers that is 8192 calls. Pictures of equal length that follow each other are a batch, and one call does
for all of them. The window attention of Qwen2.5-VL gains likewise: its windows are equal up to those at an edge.
"""

from __future__ import annotations

import types
from itertools import groupby
from typing import Any

import torch


def attend_frames_at_once(tower: Any) -> None:
    """Exchange the attention of a loaded Qwen2-VL, Qwen2.5-VL or Qwen3-VL vision tower if it is PyTorch's own."""
    if tower.config._attn_implementation == "sdpa":
        for block in tower.blocks:
            block.attn.forward = types.MethodType(_forward, block.attn)


def _forward(
    attention: Any,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **_: Any,
) -> torch.Tensor:
    """The signature of the stock attention; ``hidden_states`` is ``[patches, width]``."""
    from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

    patches = hidden_states.shape[0]
    parts = attention.qkv(hidden_states).reshape(patches, 3, attention.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
    query, key = apply_rotary_pos_emb_vision(parts[0], parts[1], *position_embeddings)
    value = parts[2]
    attended: list[torch.Tensor] = []
    start = 0
    for length, count in _runs(cu_seqlens):
        end = start + length * count
        q, k, v = (part[start:end].unflatten(0, (count, length)).transpose(1, 2) for part in (query, key, value))
        made = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=attention.scaling)
        attended.append(made.transpose(1, 2).reshape(end - start, -1))
        start = end
    joined = torch.cat(attended) if len(attended) > 1 else attended[0]
    projected: torch.Tensor = attention.proj(joined)
    return projected


def _runs(bounds: torch.Tensor) -> list[tuple[int, int]]:
    """Lengths that follow each other and how many pictures have them, from where each picture begins and ends."""
    lengths = (bounds[1:] - bounds[:-1]).tolist()
    return [(length, len(list(same))) for length, same in groupby(lengths) if length]
