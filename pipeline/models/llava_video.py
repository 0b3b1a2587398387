"""LLaVA-Video (Zhang et al. 2024, arXiv 2410.02713) in transformers' LLaVA-OneVision: no code of the authors' is run.

The tensors are the same under other names. What differs: how the patches of a frame are pooled, and that a newline
token ends every row of every frame, where LLaVA-OneVision has one at the end of the video. LLaVA-OneVision itself as
its authors wrote it (``lmms-lab/llava-onevision-qwen2-*``) is loaded by the same names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

from pipeline.errors import CheckpointError
from pipeline.models.checkpoint import Checkpoint, configured, load, resolve
from pipeline.models.llava_video_config import (
    Newlines,
    Pooling,
    llava_video_config,
    newlines_of,
    onevision_config,
)
from pipeline.models.remedies import restore

_FRAMES_AT_ONCE = 64
"""Of all frames of a batch, so that the tower's memory does not grow with their number."""


def _bilinear(maps: torch.Tensor) -> torch.Tensor:
    size = [math.ceil(side / 2) for side in maps.shape[-2:]]
    return nn.functional.interpolate(maps, size=size, mode="bilinear")


def _average(maps: torch.Tensor) -> torch.Tensor:
    return nn.functional.avg_pool2d(maps, 2)


_POOL: dict[Pooling, Callable[[torch.Tensor], torch.Tensor]] = {"bilinear": _bilinear, "average": _average}


class LlavaVideoModel(LlavaOnevisionModel):  # type: ignore[misc]
    """Source: ``get_2dPool``, ``add_token_per_grid`` and ``encode_images`` in ``llava_arch.py`` of LLaVA-NeXT."""

    pooling: Pooling = "bilinear"
    newlines: Newlines = "grid"

    def get_video_features(self, pixel_values_videos: torch.Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """The tokens of videos in ``pooler_output``.

        ``[videos, frames * rows * (columns + 1), hidden]``; ``[videos, frames * rows * columns + 1, hidden]`` with one
        newline at the end.

        Args:
            pixel_values_videos: ``[videos, frames, 3, height, width]``.
        """
        videos = pixel_values_videos.shape[0]
        frames = torch.split(pixel_values_videos.flatten(0, 1), _FRAMES_AT_ONCE)
        make = self._frame_tokens if self.newlines == "grid" else self._pooled
        made = torch.cat([make(part) for part in frames])
        tokens = made.reshape(videos, -1, made.shape[-1])
        if self.newlines == "one_token":
            tokens = torch.cat([tokens, self.image_newline.to(tokens).expand(videos, 1, -1)], dim=1)
        return BaseModelOutputWithPooling(pooler_output=tokens)

    def _frame_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        rows = self._pooled(pixels)
        newline = self.image_newline.to(rows).expand(*rows.shape[:2], 1, -1)
        return torch.cat([rows, newline], dim=2).flatten(1, 2)

    def _pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[frames, rows, columns, hidden]``."""
        tower = self.vision_tower
        # The last layer without the norm behind it, and without keeping the output of every other layer.
        embedded = tower.embeddings(pixels.to(tower.embeddings.patch_embedding.weight.device))
        features = self.multi_modal_projector(tower.encoder(inputs_embeds=embedded).last_hidden_state)
        side = math.isqrt(features.shape[1])
        maps = features.unflatten(1, (side, side)).permute(0, 3, 1, 2).contiguous()
        return _POOL[self.pooling](maps).permute(0, 2, 3, 1)


class LlavaVideoForConditionalGeneration(LlavaOnevisionForConditionalGeneration):  # type: ignore[misc]
    """With the authors' names on disk."""

    def __init__(self, config: LlavaOnevisionConfig) -> None:
        super().__init__(config)
        self.model = LlavaVideoModel(config)
        # A checkpoint may still hold what the authors' loader takes out of its tower: the head, and the layer behind
        # the one that is read.
        deleted = config.vision_config.num_hidden_layers
        self._keys_to_ignore_on_load_unexpected = [rf"vision_tower\.(.*\.)?(head\.|encoder\.layers\.{deleted}\.)"]
        self.post_init()


register_checkpoint_conversion_mapping(
    LlavaVideoForConditionalGeneration.__name__,
    [
        WeightRenaming(r"^model\.vision_tower\.vision_tower\.vision_model\.", "model.vision_tower."),
        WeightRenaming(r"^model\.mm_projector\.0\.", "model.multi_modal_projector.linear_1."),
        WeightRenaming(r"^model\.mm_projector\.2\.", "model.multi_modal_projector.linear_2."),
        WeightRenaming(r"^model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1."),
    ],
    overwrite=True,  # a module imported twice is no error
)


def load_llava_video(checkpoint: Checkpoint, pooling: Pooling, vocabulary: int) -> Any:
    """The model, its tensors exactly the checkpoint's.

    Args:
        checkpoint: what to load.
        pooling: of the patches of a frame.
        vocabulary: tokens of the tokenizer. The head is cut to them, as by the authors' loader, so that no padding row
            of the vocabulary is ever written.

    Raises:
        CheckpointError: it is another model, or a tensor is missing, unexpected or of another shape.
    """
    raw = llava_video_config(checkpoint)
    config = configured(LlavaOnevisionConfig, onevision_config(raw, resolve(checkpoint)), checkpoint)
    model: Any = load(LlavaVideoForConditionalGeneration, checkpoint, config)
    head = model.lm_head
    if vocabulary > head.weight.shape[0]:
        raise CheckpointError(
            f"The tokenizer of {checkpoint.source} has {vocabulary} tokens, and its head {head.weight.shape[0]} rows.",
            restore("the tokenizer files"),
        )
    head.weight = nn.Parameter(head.weight[:vocabulary], requires_grad=False)
    head.out_features = vocabulary
    model.model.pooling = pooling
    model.model.newlines = newlines_of(raw, checkpoint.source)
    return model
