"""A loaded GLM-4.6V checkpoint.

Every frame is a grid of its own to the vision tower, which attends within each; both halves of a patch in time have the
same pixels. The frames of a video are so too: see :class:`pipeline.families.glm.processor.VideoForm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    Glm4vForConditionalGeneration,
    Glm4vMoeForConditionalGeneration,
    Glm46VForConditionalGeneration,
)

from pipeline.families.fused import fuse
from pipeline.families.glm import GLM4V, GLM4V_MOE, GLM46V
from pipeline.families.glm.processor import GlmProcessor
from pipeline.families.loading.checkpoint import Checkpoint, load
from pipeline.families.loading.contents import check_sections
from pipeline.families.pixels import Patches, on_device
from pipeline.families.seam import FrameShape, Model, PreparedFrame, Prompt

if TYPE_CHECKING:
    from transformers import Cache

_CLASSES = {
    GLM46V: Glm46VForConditionalGeneration,
    GLM4V: Glm4vForConditionalGeneration,
    GLM4V_MOE: Glm4vMoeForConditionalGeneration,
}
_PATCHES_AT_ONCE = 2**15  # through the vision tower in one call


class GlmModel(Model):
    """GLM-4.6V, with frames as images or as one video."""

    def __init__(self, network: Any, processor: GlmProcessor) -> None:
        super().__init__(network)
        self._image_token = processor.picture_token
        self._patches = Patches(processor.levels, processor.scale.unit)

    @torch.inference_mode()
    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """As many frames together as go through the tower in one call."""
        found: list[torch.Tensor] = []
        start = 0
        while start < len(frames):
            end, patches = start + 1, frames[start].shape.patches
            while end < len(frames) and patches + frames[end].shape.patches <= _PATCHES_AT_ONCE:
                patches += frames[end].shape.patches
                end += 1
            pixels = self._patches.images(frames[start:end], self._tower_weight)
            grids = self._grids([frame.shape for frame in frames[start:end]]).to(pixels.device)
            found += self.network.model.get_image_features(pixels, grids).pooler_output
            start = end
        return found

    def positions(self, ids: torch.Tensor, shapes: Sequence[FrameShape]) -> torch.Tensor:
        """Time, row and column: ``[3, 1, L]``."""
        kinds = (ids == self._image_token).int()
        found: torch.Tensor
        found, _ = self.network.model.get_rope_index(ids, kinds, image_grid_thw=self._grids(shapes))
        return found

    def arguments(self, prompt: Prompt, length: int) -> dict[str, torch.Tensor]:
        """With the frames as images."""
        ids = torch.from_numpy(prompt.input_ids[None, :length])
        given = {
            "input_ids": ids,
            "mm_token_type_ids": (ids == self._image_token).int(),
            "pixel_values": self._patches.images(prompt.frames, self._tower_weight),
            "image_grid_thw": self._grids([frame.shape for frame in prompt.frames]),
        }
        return on_device(given, self.network.device)

    def prefill(self, prompt: Prompt, length: int, cache: Cache) -> int:
        """The network keeps what the pictures did to the positions; it is taken from there, and not left behind."""
        super().prefill(prompt, length, cache)
        shift = int(self.network.model.rope_deltas)
        self.network.model.rope_deltas = None  # of these pictures, and wrong for any others
        return length + shift

    def _grids(self, shapes: Sequence[FrameShape]) -> torch.Tensor:
        return torch.tensor([self._patches.grid(shape) for shape in shapes])

    @property
    def _tower_weight(self) -> torch.Tensor:
        weight: torch.Tensor = self.network.model.visual.patch_embed.proj.weight
        return weight


def load_glm(checkpoint: Checkpoint, processor: GlmProcessor) -> GlmModel:
    """The model.

    Raises:
        CheckpointError: its tensors are not exactly those of its class.
    """
    network: Any = load(_CLASSES[processor.kind], checkpoint)
    check_sections(network.model.language_model.rotary_emb, checkpoint.source)
    fuse(network)
    return GlmModel(network, processor)
