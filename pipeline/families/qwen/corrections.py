"""What stock Qwen models are given in place of their own: positions of text after a video, and one call for all frames.

Positions of Qwen2-VL and Qwen2.5-VL (M-RoPE): text after a video stands after all of the video. Source: "Qwen2-VL",
arXiv 2409.12191, section 2.1: a text token's three positions are equal, a vision token's are its time, row and column,
and each modality begins one above the greatest position before it. transformers 4.57 does so; 5.x moves on by the
larger side of the picture only, so that text after a long video stands inside it.

The vision towers attend within each picture, and get all pictures of a call in one sequence. Without flash attention
transformers cuts the sequence and attends in a Python loop, picture by picture in every layer: for 256 frames and 32
layers that is 8192 calls. Pictures of equal length that follow each other are a batch, and one call does for all of
them. The window attention of Qwen2.5-VL gains likewise: its windows are equal up to those at an edge.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch

from pipeline.families.fused.layers import set_forward
from pipeline.families.fused.operations import rotated

_TEXT, _VIDEO = 0, 2


def rope_index(
    model: Any,
    input_ids: torch.Tensor,
    mm_token_type_ids: torch.Tensor,
    image_grid_thw: torch.Tensor | None = None,
    video_grid_thw: torch.Tensor | None = None,
    second_per_grid_ts: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    grid_times: Sequence[Sequence[float]] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of a batch; takes the place of ``get_rope_index`` of the stock model classes.

    Args:
        model: the inner model (``Qwen2VLModel`` or ``Qwen2_5_VLModel``); only its config is used.
        input_ids: ``[B, L]``.
        mm_token_type_ids: ``[B, L]``, 0 text, 1 image, 2 video.
        image_grid_thw: ``[images, 3]`` in patches, over the whole batch in order.
        video_grid_thw: ``[videos, 3]``, likewise.
        second_per_grid_ts: ``[videos]``, seconds from one temporal grid to the next.
        attention_mask: ``[B, L]``, 0 where padded.
        grid_times: for each video the second of each of its temporal grids, which need not be evenly spaced. Only
            models that encode seconds (Qwen2.5-VL) heed it; it goes before ``second_per_grid_ts``.

    Returns:
        Positions ``[3, B, L]`` (0 where padded), and ``[B, 1]``: the next position minus the tokens so far.
    """
    vision = model.config.vision_config
    tokens_per_second = getattr(vision, "tokens_per_second", None)
    images = iter(() if image_grid_thw is None else image_grid_thw.tolist())
    videos = iter(() if video_grid_thw is None else video_grid_thw.tolist())
    video_number = 0
    positions = torch.zeros(3, *input_ids.shape, dtype=input_ids.dtype, device=input_ids.device)
    deltas: list[int] = []
    for row in range(input_ids.shape[0]):
        kept = torch.ones_like(input_ids[row], dtype=torch.bool) if attention_mask is None else attention_mask[row] > 0
        parts: list[torch.Tensor] = []
        start = 0
        for kind, length in _runs(mm_token_type_ids[row][kept].tolist()):
            if kind == _TEXT:
                part = torch.arange(start, start + length).expand(3, -1)
            elif kind == _VIDEO:
                grid = next(videos)
                times = _grid_positions(grid[0], video_number, tokens_per_second, second_per_grid_ts, grid_times)
                video_number += 1
                part = _vision_positions(start, times, grid, vision.spatial_merge_size)
            else:
                grid = next(images)
                part = _vision_positions(start, range(grid[0]), grid, vision.spatial_merge_size)
            parts.append(part)
            start = int(part.max()) + 1
        positions[:, row, kept] = torch.cat(parts, dim=1).to(positions)
        deltas.append(start - int(kept.sum()))
    return positions, torch.tensor(deltas, device=input_ids.device).unsqueeze(1)


def _grid_positions(
    count: int,
    video: int,
    tokens_per_second: int | None,
    second_per_grid_ts: torch.Tensor | None,
    grid_times: Sequence[Sequence[float]] | None,
) -> Sequence[int]:
    if tokens_per_second is None:
        return range(count)
    if grid_times is not None:
        first = grid_times[video][0]
        # 1.2 - 0.7 is a little less than 0.5 in binary, and must not fall a position short.
        return [int(round((time - first) * tokens_per_second, 6)) for time in grid_times[video]]
    seconds = 1.0 if second_per_grid_ts is None else float(second_per_grid_ts[video])
    return [int(index * seconds * tokens_per_second) for index in range(count)]


def _vision_positions(start: int, times: Sequence[int], grid: Sequence[int], merge: int) -> torch.Tensor:
    axes = (torch.tensor(list(times)), torch.arange(grid[1] // merge), torch.arange(grid[2] // merge))
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1) + start


def _runs(kinds: list[int]) -> Iterator[tuple[int, int]]:
    begin = 0
    for end in range(1, len(kinds) + 1):
        if end == len(kinds) or kinds[end] != kinds[begin]:
            yield kinds[begin], end - begin
            begin = end


def stock_is_right(model: Any) -> bool:
    """Whether the installed transformers puts text after all of a long, small video."""
    merge = model.config.vision_config.spatial_merge_size
    kinds = torch.tensor([[_TEXT, *[_VIDEO] * 32, _TEXT]])
    grid = torch.tensor([[32, merge, merge]])
    positions, _ = type(model).get_rope_index(model, torch.zeros_like(kinds), kinds, video_grid_thw=grid)
    return bool(positions[0, 0, -1] == positions[:, 0, :-1].max() + 1)


def correct_positions(model: Any) -> None:
    """Give a loaded ``Qwen2VL...`` or ``Qwen2_5_VLForConditionalGeneration`` right positions if its own are not."""
    if not stock_is_right(model.model):
        model.model.get_rope_index = types.MethodType(rope_index, model.model)


@contextmanager
def true_times(model: Any, grid_times: Sequence[Sequence[float]]) -> Iterator[None]:
    """Within this context the model's videos stand at the seconds of ``grid_times``, one sequence a video."""
    inner = model.model
    before = inner.__dict__.get("get_rope_index")

    def timed(model: Any, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return rope_index(model, *args, **{**kwargs, "grid_times": grid_times})

    inner.get_rope_index = types.MethodType(timed, inner)
    try:
        yield
    finally:
        if before is None:
            del inner.get_rope_index
        else:
            inner.get_rope_index = before


def attend_frames_at_once(tower: Any) -> None:
    """Exchange the attention of a loaded Qwen2-VL, Qwen2.5-VL or Qwen3-VL vision tower if it is PyTorch's own."""
    if attends_at_once(tower):
        for block in tower.blocks:
            set_forward(block.attn, _forward)


def attends_at_once(tower: Any) -> bool:
    """Whether :func:`attend_frames_at_once` is for this tower."""
    return bool(tower.config._attn_implementation == "sdpa")


def _forward(
    attention: Any,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **_: Any,
) -> torch.Tensor:
    """The signature of the stock attention; ``hidden_states`` is ``[patches, width]``."""
    patches, heads = hidden_states.shape[0], attention.num_heads
    parts = attention.qkv(hidden_states).view(1, patches, 3 * heads, -1).transpose(1, 2)
    cos, sin = (part[None].float() for part in position_embeddings)
    turned = rotated(parts[:, : 2 * heads], cos, sin)  # in float32, as the stock code does
    query, key, value = turned[0, :heads], turned[0, heads:], parts[0, 2 * heads :]
    attended: list[torch.Tensor] = []
    start = 0
    for length, count in _equal_lengths(cu_seqlens):
        end = start + length * count
        q, k, v = (part[:, start:end].unflatten(1, (count, length)).transpose(0, 1) for part in (query, key, value))
        made = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=attention.scaling)
        attended.append(made.transpose(1, 2).reshape(end - start, -1))
        start = end
    joined = torch.cat(attended) if len(attended) > 1 else attended[0]
    projected: torch.Tensor = attention.proj(joined)
    return projected


def _equal_lengths(bounds: torch.Tensor) -> list[tuple[int, int]]:
    """Lengths that follow each other and how many pictures have them, from where each picture begins and ends."""
    lengths = (bounds[1:] - bounds[:-1]).tolist()
    return [(length, len(list(same))) for length, same in groupby(lengths) if length]


def layout_of(tower: Any, grid: tuple[int, int, int], device: torch.device) -> dict[str, torch.Tensor]:
    """What a tower would work out on the host at every call, for frames of one size: arguments of its ``forward``.

    The bounds of pictures and windows stay on the CPU, where :func:`attend_frames_at_once` reads them without waiting
    for the device.

    Args:
        tower: of Qwen2-VL or Qwen2.5-VL, with its attention exchanged.
        grid: frames, and rows and columns of patches.
        device: of the tower.
    """
    from transformers.vision_utils import get_vision_cu_seqlens, get_vision_position_ids, get_vision_window_index

    rows, merge = torch.tensor([grid]), tower.spatial_merge_size
    found = {
        "position_ids": get_vision_position_ids(rows, merge).to(device),
        "cu_seqlens": get_vision_cu_seqlens(rows),
    }
    if hasattr(tower, "window_size"):
        index, bounds = get_vision_window_index(rows, merge, tower.window_size, tower.patch_size)
        found |= {"window_index": index.to(device), "cu_window_seqlens": bounds}
    return found
