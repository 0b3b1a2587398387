"""LLaVA-Video (Zhang et al. 2024, arXiv 2410.02713) in transformers' LLaVA-OneVision: no code of the authors' is run.

The tensors are the same under other names. What differs: how the patches of a frame are pooled, and that a newline
token ends every row of every frame, where LLaVA-OneVision has one at the end of the video. LLaVA-OneVision itself as
its authors wrote it (``lmms-lab/llava-onevision-qwen2-*``) is loaded by the same names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from pipeline.errors import CheckpointError
from pipeline.families.fused import fuse
from pipeline.families.known import restore
from pipeline.families.llava_video.processor import (
    LlavaVideoProcessor,
    Newlines,
    Pooling,
    llava_video_config,
    onevision_config,
)
from pipeline.families.loading.checkpoint import Checkpoint, configured, load, resolve
from pipeline.families.pixels import Levels, levels_of, on_device, stacked
from pipeline.families.seam import Model, PreparedFrame, Prompt

_FRAMES_AT_ONCE = 64
"""A bound on the frames of a batch, so that the tower's memory does not grow with their number."""


def _bilinear(maps: torch.Tensor) -> torch.Tensor:
    size = [math.ceil(side / 2) for side in maps.shape[-2:]]
    return nn.functional.interpolate(maps, size=size, mode="bilinear")


def _average(maps: torch.Tensor) -> torch.Tensor:
    return nn.functional.avg_pool2d(maps, 2)


_POOL: dict[Pooling, Callable[[torch.Tensor], torch.Tensor]] = {"bilinear": _bilinear, "average": _average}


class LlavaVideoNetwork(LlavaOnevisionModel):  # type: ignore[misc]
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
        made = self.frame_tokens(pixel_values_videos.flatten(0, 1))
        tokens = made.reshape(videos, -1, made.shape[-1])
        if self.newlines == "one_token":
            tokens = torch.cat([tokens, self.image_newline.to(tokens).expand(videos, 1, -1)], dim=1)
        return BaseModelOutputWithPooling(pooler_output=tokens)

    def frame_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[frames, tokens of a frame, hidden]`` for frames ``[frames, 3, height, width]``."""
        make = self._with_newlines if self.newlines == "grid" else self._without_newlines
        return torch.cat([make(part) for part in torch.split(pixels, _FRAMES_AT_ONCE)])

    def _without_newlines(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._pooled(pixels).flatten(1, 2)

    def _with_newlines(self, pixels: torch.Tensor) -> torch.Tensor:
        rows = self._pooled(pixels)
        newline = self.image_newline.to(rows).expand(*rows.shape[:2], 1, -1)
        return torch.cat([rows, newline], dim=2).flatten(1, 2)

    def _pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[frames, rows, columns, hidden]``."""
        tower = self.vision_tower
        # The last layer without the norm after it, and without keeping the output of every other layer.
        embedded = tower.embeddings(pixels.to(tower.embeddings.patch_embedding.weight.device))
        features = self.multi_modal_projector(tower.encoder(inputs_embeds=embedded).last_hidden_state)
        side = math.isqrt(features.shape[1])
        maps = features.unflatten(1, (side, side)).permute(0, 3, 1, 2).contiguous()
        return _POOL[self.pooling](maps).permute(0, 2, 3, 1)


class LlavaVideoForConditionalGeneration(LlavaOnevisionForConditionalGeneration):  # type: ignore[misc]
    """With the authors' names on disk."""

    def __init__(self, config: LlavaOnevisionConfig) -> None:
        super().__init__(config)
        self.model = LlavaVideoNetwork(config)
        # A checkpoint may still hold what the authors' loader takes out of its tower: the head, and the layer after
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
    overwrite=True,  # a module imported twice is not an error
)


class LlavaVideoModel(Model):
    """LLaVA-Video, with all frames as one video."""

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        stock = SiglipImageProcessorPil()
        self._levels = Levels(
            levels_of(
                lambda image: stock.rescale(image, stock.rescale_factor),
                lambda image: stock.normalize(image, stock.image_mean, stock.image_std),
            )
        )

    @torch.inference_mode()
    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """As frames of a video, each with its newlines where every row has one."""
        return list(self.network.model.frame_tokens(self._pixels(frames)))

    def arguments(self, prompt: Prompt, length: int) -> dict[str, torch.Tensor]:
        """``pixel_values_videos`` is ``[1, frames, 3, 384, 384]``."""
        ids = torch.from_numpy(prompt.input_ids[None, :length])
        pixels = self._pixels(prompt.frames)[None]
        return on_device({"input_ids": ids, "pixel_values_videos": pixels}, self.network.device)

    def _pixels(self, frames: Sequence[PreparedFrame]) -> torch.Tensor:
        weight = self.network.model.vision_tower.embeddings.patch_embedding.weight
        return self._levels.of(stacked(frames, weight), weight)


def load_llava_video(checkpoint: Checkpoint, processor: LlavaVideoProcessor) -> LlavaVideoModel:
    """The model, its tensors exactly the checkpoint's.

    Its head is cut to the tokens of the tokenizer, as by the authors' loader, so that no padding row of the vocabulary
    is ever written.

    Raises:
        CheckpointError: it is another model, or a tensor is missing, unexpected or of another shape.
    """
    raw, vocabulary = llava_video_config(checkpoint), len(processor.tokenizer)
    config = configured(LlavaOnevisionConfig, onevision_config(raw, resolve(checkpoint)), checkpoint)
    network: Any = load(LlavaVideoForConditionalGeneration, checkpoint, config)
    head = network.lm_head
    if vocabulary > head.weight.shape[0]:
        raise CheckpointError(
            f"The tokenizer of {checkpoint.source} has {vocabulary} tokens, and its head {head.weight.shape[0]} rows.",
            restore("the tokenizer files"),
        )
    head.weight = nn.Parameter(head.weight[:vocabulary], requires_grad=False)
    head.out_features = vocabulary
    network.model.pooling = processor.pooling
    network.model.newlines = processor.form.newlines
    fuse(network)
    return LlavaVideoModel(network)
