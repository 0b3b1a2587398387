"""Single frames for LLaVA-OneVision, each an image of base resolution as in a prompt of several images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import ConfigError
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.llava_onevision_family import Tower, load_llava_onevision, tower_of
from pipeline.models.llava_onevision_inputs import image_arguments, markup, open_tokenizer, placeholders
from pipeline.models.llava_onevision_pixels import image_pixels, load_image_processor
from pipeline.models.single_frames import PreparedFrame


@dataclass(frozen=True)
class LlavaSingleFrames:
    """See :class:`pipeline.models.single_frames.SingleFrames`. All frames become squares of the tower's one size."""

    checkpoint: Checkpoint
    tokenizer: Any
    processor: Any
    tower: Tower

    smaller = ()

    @classmethod
    def open(cls, checkpoint: Checkpoint, max_pixels: int) -> LlavaSingleFrames:
        """Read tokenizer and image settings.

        Raises:
            CheckpointError: a file is missing, or its settings are not those of the model.
            ConfigError: the limit is less than the one size that there is.
        """
        found = tower_of(checkpoint)
        if max_pixels < found.image_size**2:
            raise ConfigError(
                f"max_pixels={max_pixels} cannot be kept: {checkpoint.source} takes frames of {found.image_size} x "
                f"{found.image_size} pixels and no others.",
                f"Allow that: sampler.max_pixels={found.image_size**2}.",
            )
        folder = resolve(checkpoint)
        processor = load_image_processor(folder, found)
        return cls(checkpoint, open_tokenizer(folder, found), processor, found)

    @property
    def placeholder(self) -> str:
        """``<image>``."""
        return placeholders(self.tokenizer, self.tower)[0]

    @property
    def other_placeholders(self) -> tuple[str, ...]:
        """``<video>``."""
        return placeholders(self.tokenizer, self.tower)[1:]

    @property
    def markup(self) -> tuple[str, ...]:
        """The placeholders of pictures, and the tokenizer's control tokens."""
        return markup(self.tokenizer, self.tower)

    def load(self) -> Any:
        """See the protocol."""
        return load_llava_onevision(self.checkpoint)

    def prepare(self, pixels: npt.NDArray[np.uint8]) -> PreparedFrame:
        """See the protocol; values are ``[1, 3, image_size, image_size]``."""
        values = torch.from_numpy(image_pixels(self.processor, [pixels]))
        return PreparedFrame(values, (self.tower.grid, self.tower.grid), self.tower.image_tokens)

    def features(self, model: Any, frames: Sequence[PreparedFrame]) -> torch.Tensor:
        """See the protocol."""
        device = model.model.vision_tower.device
        side = self.tower.image_size
        arguments = image_arguments(torch.cat([frame.values for frame in frames]).numpy(), [(side, side)] * len(frames))
        on_device = {name: tensor.to(device) for name, tensor in arguments.items()}
        return torch.cat(tuple(model.model.get_image_features(**on_device).pooler_output))

    def positions(self, model: Any, ids: torch.Tensor, frame: PreparedFrame) -> torch.Tensor:
        """One after another: ``[1, L]``."""
        return torch.arange(ids.shape[1])[None]
