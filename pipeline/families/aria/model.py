"""A loaded checkpoint of Aria or GenS, in transformers' Aria.

Unlike Aria, GenS has its authors' routers and places patches in integers, and the mask of what lies beside a frame on
its canvas is a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AriaConfig, AriaForConditionalGeneration

from pipeline.families.aria import ARIA, NAMES, yi_vl_config
from pipeline.families.aria.yi_vl import YiVlAria, route_as_deepseek
from pipeline.families.aria.yi_vl_config import CANVAS, PATCH
from pipeline.families.loading.checkpoint import Checkpoint, configured, load, model_type, raw_config
from pipeline.families.pixels import Levels, levels_of, on_device
from pipeline.families.seam import Model, PreparedFrame, Prompt

_FRAMES_AT_ONCE = 16
"""Through the tower in one call. Its projector holds 128 x 1225 attention weights a head and frame."""


class AriaModel(Model):
    """See :class:`pipeline.families.seam.Model`.

    Args:
        network: ``AriaForConditionalGeneration``.
        masks: whether the tower is told which pixels are the frame's.
    """

    def __init__(self, network: Any, masks: bool) -> None:
        super().__init__(network)
        self._masks = masks
        half = np.float32(0.5)
        self._levels = Levels(levels_of(lambda image: image / np.float32(255), lambda image: (image - half) / half))

    @torch.inference_mode()
    def features(self, frames: Sequence[PreparedFrame]) -> list[torch.Tensor]:
        """A few frames a call."""
        found: list[torch.Tensor] = []
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            pixels, inside = self.on_canvas(frames[start : start + _FRAMES_AT_ONCE])
            output = self.network.model.get_image_features(pixels, pixel_mask=inside if self._masks else None)
            found += output.pooler_output.unbind()
        return found

    def arguments(self, prompt: Prompt, length: int) -> dict[str, torch.Tensor]:
        """With the mask where it is asked for."""
        ids = torch.from_numpy(prompt.input_ids[None, :length])
        pixels, inside = self.on_canvas(prompt.frames)
        mask = {"pixel_mask": inside} if self._masks else {}
        return on_device({"input_ids": ids, "pixel_values": pixels, **mask}, self.network.device)

    def on_canvas(self, frames: Sequence[PreparedFrame]) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames as the vision tower takes them, and where on the canvas they are.

        Returns:
            ``[frames, 3, 490, 490]`` from -1 to 1, black beside the frame, and ``[frames, 490, 490]``, true on it.
        """
        weight = self.network.model.vision_tower.embeddings.patch_embedding.weight
        canvas = np.zeros((len(frames), CANVAS, CANVAS, 3), np.uint8)
        inside = torch.zeros(len(frames), CANVAS, CANVAS, dtype=torch.bool)
        for place, frame in enumerate(frames):
            height, width, _ = frame.pixels.shape
            canvas[place, :height, :width] = frame.pixels
            inside[place, :height, :width] = True
        return self._levels.of(canvas, weight), inside.to(weight.device)


def load_aria(checkpoint: Checkpoint) -> AriaModel:
    """Aria as its authors released it.

    Raises:
        CheckpointError: its tensors are not exactly those of its class.
    """
    return AriaModel(load(AriaForConditionalGeneration, checkpoint), masks=True)


def load_gens(checkpoint: Checkpoint, masks: bool) -> AriaModel:
    """GenS, as released (``yi_vl``) or in transformers' form (``aria``), with the authors' routers.

    Args:
        checkpoint: it.
        masks: whether the tower is told which pixels are the frame's.

    Raises:
        CheckpointError: it is another model, its config cannot be represented, or its tensors are not exactly those.
    """
    if model_type(checkpoint, NAMES) == ARIA:
        network: Any = load(AriaForConditionalGeneration, checkpoint)
        route_as_deepseek(network, renormalise=True)
    else:
        raw = raw_config(checkpoint)
        config = configured(AriaConfig, yi_vl_config.aria_config(raw, checkpoint.source), checkpoint)
        network = load(YiVlAria, checkpoint, config)
        route_as_deepseek(network, yi_vl_config.renormalises(raw))
    if not masks:
        place_patches_exactly(network)
    return AriaModel(network, masks)


def place_patches_exactly(model: Any) -> None:
    """Give the patches of a full canvas their positions in integers.

    The model's code finds them by comparing fractions. On the canvas of 490 pixels each lies exactly on a boundary of
    the table for 980, so that the rounding of the device decides; in integers there is nothing to round.
    """
    embeddings = model.model.vision_tower.embeddings
    rows = torch.tensor(position_rows(embeddings.image_size))

    def exact(_: Any, found: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (rows.to(found[0].device).expand(found[0].shape),)

    embeddings.position_embedding.register_forward_pre_hook(exact)


def position_rows(image_size: int) -> list[int]:
    """For each patch of the canvas, row-major, its row in the position table of images ``image_size`` pixels a side."""
    side, table = CANVAS // PATCH, image_size // PATCH
    places = [index * table // side for index in range(side)]
    return [row * table + column for row in places for column in places]
