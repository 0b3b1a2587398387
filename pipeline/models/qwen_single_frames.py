"""Single frames for Qwen2-VL and Qwen2.5-VL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import ConfigError
from pipeline.models.chat import load_tokenizer, special_tokens
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.qwen_family import IMAGE_PAD, VIDEO_PAD, load_qwen
from pipeline.models.qwen_pixels import UNIT, FrameScale, image_patches, load_image_processor
from pipeline.models.single_frames import PreparedFrame


@dataclass(frozen=True)
class QwenSingleFrames:
    """See :class:`pipeline.models.single_frames.SingleFrames`. Frames keep their shape, within the limit."""

    checkpoint: Checkpoint
    tokenizer: Any
    processor: Any
    scale: FrameScale

    placeholder = IMAGE_PAD
    other_placeholders = (VIDEO_PAD,)

    @classmethod
    def open(cls, checkpoint: Checkpoint, max_pixels: int) -> QwenSingleFrames:
        """Read tokenizer and image settings.

        Raises:
            CheckpointError: a file is missing, or is another model's.
            ConfigError: the limit is less than one token.
        """
        if max_pixels < UNIT**2:
            raise ConfigError(
                f"max_pixels={max_pixels} is less than one token.",
                f"A token is {UNIT} x {UNIT} pixels: sampler.max_pixels={256 * UNIT**2} gives up to 256 a frame.",
            )
        folder = resolve(checkpoint)
        scale = FrameScale(UNIT**2, max_pixels, None)
        return cls(checkpoint, load_tokenizer(folder), load_image_processor(folder), scale)

    @property
    def markup(self) -> tuple[str, ...]:
        """The tokenizer's control tokens, pictures' placeholders among them."""
        return special_tokens(self.tokenizer)

    @property
    def smaller(self) -> tuple[str, ...]:
        """Half the pixels, as long as a token is left."""
        half = max(self.scale.min_pixels, self.scale.max_pixels // 2)
        return (f"sampler.max_pixels={half}",) if half < self.scale.max_pixels else ()

    def load(self) -> Any:
        """See the protocol."""
        return load_qwen(self.checkpoint)

    def prepare(self, pixels: npt.NDArray[np.uint8]) -> PreparedFrame:
        """See the protocol; values are ``[patches, 3 * 2 * 14 * 14]``."""
        patches = image_patches(self.processor, [pixels], self.scale)
        _, rows, columns = patches.grids[0].tolist()
        return PreparedFrame(patches.values, (rows, columns), patches.tokens[0])

    def features(self, model: Any, frames: Sequence[PreparedFrame]) -> torch.Tensor:
        """See the protocol."""
        device = model.model.visual.device
        # Frames of one size are one grid row to the tower, which attends within each temporal step alone.
        grid = torch.tensor([[len(frames), *frames[0].grid]], device=device)
        values = torch.cat([frame.values for frame in frames]).to(device)
        return torch.cat(tuple(model.model.get_image_features(values, grid).pooler_output))

    def positions(self, model: Any, ids: torch.Tensor, frame: PreparedFrame) -> torch.Tensor:
        """Time, row and column: ``[3, 1, L]``."""
        kinds = (ids == self.tokenizer.convert_tokens_to_ids(self.placeholder)).int()
        found: torch.Tensor
        found, _ = model.model.get_rope_index(ids, kinds, image_grid_thw=torch.tensor([[1, *frame.grid]]))
        return found
