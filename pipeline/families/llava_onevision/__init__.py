"""LLaVA-OneVision (Li et al. 2024, arXiv 2408.03326) in the form that transformers loads by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.families.known import KnownModel

if TYPE_CHECKING:
    from pipeline.families.loading.checkpoint import Checkpoint
    from pipeline.families.seam import Opened

LLAVA_ONEVISION = "llava_onevision"
_KNOWN = {LLAVA_ONEVISION: KnownModel("LLaVA-OneVision (-hf)", ("answerer=llava_onevision_7b",))}
NAMES = {kind: known.name for kind, known in _KNOWN.items()}


def known_model(config: Mapping[str, Any]) -> KnownModel | None:
    """The model of a ``config.json``; None where it is none of this family."""
    return _KNOWN.get(str(config.get("model_type")))


def open_images(checkpoint: Checkpoint, max_pixels: int) -> Opened[Any]:
    """For a sampler that shows one frame at a time as an image of ``max_pixels`` at most.

    Raises:
        CheckpointError: a file is missing, or is another model's.
        ConfigError: the family has no frames as small as that.
    """
    from pipeline.families.llava_onevision import processor

    return processor.open_images(checkpoint, max_pixels)
