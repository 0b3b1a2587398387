"""Loaded Qwen2-VL, Qwen2.5-VL and Qwen3-VL checkpoints.

A frame shown as an image is a grid of its own (temporal extent 1), so the vision tower's result for it does not depend
on its neighbours. An image fills both halves of a patch in time with the same pixels; a video's patch takes its first
half from one frame and its second from another.

Two parts of the stock models are replaced: the positions of text after a video, and the tower's attention.

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
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeForConditionalGeneration,
)

from pipeline.families.fused import fuse, rotated, set_forward
from pipeline.families.loading.checkpoint import Checkpoint, load
from pipeline.families.loading.contents import check_sections
from pipeline.families.pixels import Patches, on_device, stacked
from pipeline.families.qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_VL, QWEN3_VL_MOE
from pipeline.families.qwen.processor import IMAGE_PAD, Grids, QwenProcessor
from pipeline.families.seam import FrameShape, Model, PreparedFrame, Prompt
from pipeline.generation.cached_reading import read_with_cache

if TYPE_CHECKING:
    from transformers import Cache

_CLASSES = {
    QWEN2_VL: Qwen2VLForConditionalGeneration,
    QWEN2_5_VL: Qwen2_5_VLForConditionalGeneration,
    QWEN3_VL: Qwen3VLForConditionalGeneration,
    QWEN3_VL_MOE: Qwen3VLMoeForConditionalGeneration,
}
_TIMED_BY_POSITION = (QWEN2_VL, QWEN2_5_VL)
_TEXT, _VIDEO = 0, 2  # as transformers numbers kinds of tokens
_PATCHES_AT_ONCE = 2**15  # through the vision tower in one call: a window of 256 frames at 112 x 112 is half of it


class QwenModel(Model):
    """Qwen2-VL, Qwen2.5-VL and Qwen3-VL: each frame is an image of its own size."""

    def __init__(self, network: Any, processor: QwenProcessor) -> None:
        super().__init__(network)
        self._processor = processor
        self._patches = VideoPatches(processor.levels, processor.scale.unit)
        self._timed_by_position = processor.kind in _TIMED_BY_POSITION
        self._layout = lru_cache(maxsize=8)(self._lay_out)
        self._image_token = processor.tokenizer.convert_tokens_to_ids(IMAGE_PAD)

    def close(self) -> None:
        """Free the memory, that of layouts as well."""
        self._layout.cache_clear()
        super().close()

    @torch.inference_mode()
    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """Frames of one size that follow each other go through the tower together."""
        found: list[torch.Tensor] = []
        for shape, same in groupby(frames, key=lambda frame: frame.shape):
            together = list(same)
            at_once = max(1, _PATCHES_AT_ONCE // shape.patches)
            for start in range(0, len(together), at_once):
                found += self._features(together[start : start + at_once])
        return found

    def positions(self, ids: torch.Tensor, shapes: Sequence[FrameShape]) -> torch.Tensor:
        """Time, row and column: ``[3, 1, L]``."""
        kinds = (ids == self._image_token).int()
        found: torch.Tensor
        found, _ = self.network.model.get_rope_index(
            ids, kinds, image_grid_thw=torch.tensor([self._patches.grid(shape) for shape in shapes])
        )
        return found

    def arguments(self, prompt: Prompt, length: int) -> dict[str, torch.Tensor]:
        """With the frames as images, or as one video or several."""
        ids = torch.from_numpy(prompt.input_ids[None, :length])
        like = self._tower_weight
        grids = self._processor.form.grids(prompt.times)
        is_picture = (ids == self._processor.picture_token).int()
        given = {"input_ids": ids, "mm_token_type_ids": is_picture * (1 if grids is None else 2)}
        if grids is None:
            given["pixel_values"] = self._patches.images(prompt.frames, like)
            given["image_grid_thw"] = torch.tensor([self._patches.grid(frame.shape) for frame in prompt.frames])
        else:
            given["pixel_values_videos"] = self._patches.video(prompt.frames, grids, like)
            given["video_grid_thw"] = self._patches.video_grids(prompt.frames, grids)
        return on_device(given, self.network.device)

    def prefill(self, prompt: Prompt, length: int, cache: Cache) -> int:
        """With the grids of a video at their true seconds, where position ids tell them."""
        grids = self._processor.form.grids(prompt.times)
        if grids is None and self._timed_by_position:
            return self.read_images(prompt, length, cache, self._image_token)
        with true_times(self.network, [grids.times]) if grids is not None and grids.times else nullcontext():
            read_with_cache(self.network.model, cache, **self.arguments(prompt, length))
        return length + int(self.network.model.rope_deltas)

    @property
    def _tower_weight(self) -> torch.Tensor:
        weight: torch.Tensor = self.network.model.visual.patch_embed.proj.weight
        return weight

    def _features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        _, rows, columns = self._patches.grid(frames[0].shape)
        weight = self._tower_weight
        # Frames of one size are one grid row to the tower, which attends within each temporal step alone.
        grid = torch.tensor([[len(frames), rows, columns]])
        layout = self._layout(len(frames), rows, columns)
        grid = grid if layout else grid.to(weight.device)
        output = self.network.model.get_image_features(self._patches.images(frames, weight), grid, **layout)
        return list(torch.cat(tuple(output.pooler_output)).chunk(len(frames)))

    def _lay_out(self, frames: int, rows: int, columns: int) -> dict[str, torch.Tensor]:
        tower = self.network.model.visual
        known = self._timed_by_position and attends_at_once(tower)
        return layout_of(tower, (frames, rows, columns), self._tower_weight.device) if known else {}


class VideoPatches(Patches):
    """With the frames of a video, two of which share a patch."""

    def video(self, frames: Sequence[PreparedFrame], grids: Grids, like: torch.Tensor) -> torch.Tensor:
        """The two frames of each grid; all have one size."""
        pixels = self.levels.of(stacked(frames, like), like)
        first, second = (torch.tensor([pair[half] for pair in grids.pairs], device=like.device) for half in (0, 1))
        return self.cut(pixels[first], pixels[second])

    def video_grids(self, frames: Sequence[PreparedFrame], grids: Grids) -> torch.Tensor:
        """``[videos, 3]``: temporal grids, rows and columns of patches."""
        _, rows, columns = self.grid(frames[0].shape)
        count = len(grids.pairs)
        return torch.tensor([[count, rows, columns]] if grids.is_one_video else [[1, rows, columns]] * count)


def load_qwen(checkpoint: Checkpoint, processor: QwenProcessor) -> QwenModel:
    """The model, with right positions for text after a video, and frames of one size encoded in one call.

    Raises:
        CheckpointError: its tensors are not exactly those of its class.
    """
    network: Any = load(_CLASSES[processor.kind], checkpoint)
    check_sections(network.model.language_model.rotary_emb, checkpoint.source)
    if processor.kind in _TIMED_BY_POSITION:
        correct_positions(network)
    attend_frames_at_once(network.model.visual)
    fuse(network)
    return QwenModel(network, processor)


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
