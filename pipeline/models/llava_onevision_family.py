"""What a LLaVA-OneVision checkpoint is, from ``config.json`` alone; what a picture costs it; its model class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.models.checkpoint import Checkpoint, load, model_type, raw_config, size
from pipeline.models.remedies import override

LLAVA_ONEVISION = "llava_onevision"
NAMES = {LLAVA_ONEVISION: "LLaVA-OneVision"}


@dataclass(frozen=True)
class Tower:
    """The picture side of a checkpoint."""

    image_size: int
    """Pixels of a side, to which every frame is scaled."""
    patch_size: int
    image_token_id: int
    video_token_id: int

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    @property
    def image_tokens(self) -> int:
        """Tokens of an image of base resolution, the newline behind it among them: 730 at 384 pixels."""
        return self.grid**2 + 1

    def video_tokens(self, frames: int) -> int:
        """Tokens of a whole video: 196 a frame at 384 pixels, and one newline."""
        return frames * math.ceil(self.grid / 2) ** 2 + 1


def tower_of(checkpoint: Checkpoint) -> Tower:
    """The checkpoint's sizes and the tokens that stand for pictures.

    Raises:
        CheckpointError: it is another model, and which.
    """
    # Saved configurations leave out what is the class's default: SigLIP's size and patch, LLaVA's token ids.
    config = _config(checkpoint)
    vision: Mapping[str, Any] = config.get("vision_config") or {"image_size": 384, "patch_size": 14}
    return Tower(
        image_size=size(vision, "image_size", 224, checkpoint.source),
        patch_size=size(vision, "patch_size", 16, checkpoint.source),
        image_token_id=config.get("image_token_index", config.get("image_token_id", 151646)),
        video_token_id=config.get("video_token_index", config.get("video_token_id", 151647)),
    )


def context_tokens(checkpoint: Checkpoint) -> int:
    """Tokens that prompt and answer may have together.

    Raises:
        CheckpointError: it is another model, and which.
    """
    return size(_config(checkpoint).get("text_config") or {}, "max_position_embeddings", 32768, checkpoint.source)


def load_llava_onevision(checkpoint: Checkpoint) -> Any:
    """The model."""
    from transformers import LlavaOnevisionForConditionalGeneration

    return load(LlavaOnevisionForConditionalGeneration, checkpoint)


def _config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    model_type(checkpoint, NAMES)
    config = raw_config(checkpoint)
    features = config.get("vision_feature_select_strategy", "full")
    if features != "full":
        raise CheckpointError(
            f"{checkpoint.source} selects {features!r} features of the vision tower, and LLaVA-OneVision all.",
            f"Name another checkpoint: {override('source', 'llava-hf/llava-onevision-qwen2-7b-ov-hf')}.",
        )
    return config
