"""Loaded Qwen2-VL, Qwen2.5-VL and Qwen3-VL checkpoints.

A frame shown as an image is a grid of its own (temporal extent 1), so the vision tower's result for it does not depend
on its neighbours. An image fills both halves of a patch in time with the same pixels; a video's patch takes its first
half from one frame and its second from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
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

from pipeline.families.fused.layers import fuse
from pipeline.families.loading.checkpoint import Checkpoint, load
from pipeline.families.loading.contents import check_sections
from pipeline.families.pixels import Patches, on_device, stacked
from pipeline.families.qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_VL, QWEN3_VL_MOE
from pipeline.families.qwen.corrections import (
    attend_frames_at_once,
    attends_at_once,
    correct_positions,
    layout_of,
    true_times,
)
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
