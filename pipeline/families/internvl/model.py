"""A loaded InternVL3 checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import InternVLForConditionalGeneration

from pipeline.families.fused import fuse
from pipeline.families.internvl.processor import InternVLProcessor
from pipeline.families.loading.checkpoint import Checkpoint, load
from pipeline.families.pixels import Levels, on_device, stacked
from pipeline.families.seam import Model, PreparedFrame, Prompt


class InternVLModel(Model):
    """InternVL, with each frame as one tile."""

    def __init__(self, network: Any, processor: InternVLProcessor) -> None:
        super().__init__(network)
        self._levels = Levels(processor.levels)

    @torch.inference_mode()
    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """Every frame a tile."""
        return list(self.network.model.get_image_features(self._pixels(frames)).pooler_output)

    def arguments(self, prompt: Prompt, length: int) -> dict[str, torch.Tensor]:
        """``pixel_values`` is ``[frames, 3, side, side]``."""
        ids = torch.from_numpy(prompt.input_ids[None, :length])
        given = {"input_ids": ids, "pixel_values": self._pixels(prompt.frames)}
        return on_device(given, self.network.device)

    def _pixels(self, frames: Sequence[PreparedFrame]) -> torch.Tensor:
        weight = self.network.model.vision_tower.embeddings.patch_embeddings.projection.weight
        return self._levels.of(stacked(frames, weight), weight)


def load_internvl(checkpoint: Checkpoint, processor: InternVLProcessor) -> InternVLModel:
    """The model.

    Raises:
        CheckpointError: its tensors are not exactly those of its class.
    """
    network: Any = load(InternVLForConditionalGeneration, checkpoint)
    fuse(network)
    return InternVLModel(network, processor)
