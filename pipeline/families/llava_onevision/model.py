"""A loaded LLaVA-OneVision checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LlavaOnevisionForConditionalGeneration

from pipeline.families.fused import fuse
from pipeline.families.llava_onevision.processor import LlavaProcessor
from pipeline.families.loading.checkpoint import Checkpoint, load
from pipeline.families.pixels import Levels, on_device, stacked
from pipeline.families.seam import Model, PreparedFrame, Prompt


class LlavaModel(Model):
    """LLaVA-OneVision, with frames as images or as one video."""

    def __init__(self, network: Any, processor: LlavaProcessor) -> None:
        super().__init__(network)
        self._is_video = processor.form.kind == "video"
        self._levels = Levels(processor.levels)

    @torch.inference_mode()
    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """One call of the tower for all frames."""
        found = self.network.model.get_image_features(**on_device(self._images(frames), self.network.device))
        return list(found.pooler_output)

    def arguments(self, prompt: Prompt, length: int) -> dict[str, torch.Tensor]:
        """``pixel_values_videos`` is ``[1, frames, 3, image_size, image_size]``."""
        pictures = self._images(prompt.frames)
        if self._is_video:
            pictures = {"pixel_values_videos": pictures["pixel_values"][None, :, 0]}
        ids = torch.from_numpy(prompt.input_ids[None, :length])
        return on_device({"input_ids": ids, **pictures}, self.network.device)

    def _images(self, frames: Sequence[PreparedFrame]) -> dict[str, torch.Tensor]:
        """Images of base resolution; ``pixel_values`` is ``[frames, 1 patch, 3, image_size, image_size]``."""
        weight = self.network.model.vision_tower.embeddings.patch_embedding.weight
        return {
            "pixel_values": self._levels.of(stacked(frames, weight), weight)[:, None],
            "image_sizes": torch.tensor([(frame.shape.height, frame.shape.width) for frame in frames]),
            # An entry of 1 would be taken for a lone image with tiles.
            "batch_num_images": torch.tensor([max(2, len(frames))]),
        }


def load_llava_onevision(checkpoint: Checkpoint, processor: LlavaProcessor) -> LlavaModel:
    """The model.

    Raises:
        CheckpointError: its tensors are not exactly those of its class.
    """
    network: Any = load(LlavaOnevisionForConditionalGeneration, checkpoint)
    fuse(network)
    return LlavaModel(network, processor)
