"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.families.known import KnownModel

if TYPE_CHECKING:
    from pipeline.families.loading.checkpoint import Checkpoint
    from pipeline.families.seam import Opened

QWEN2_VL = "qwen2_vl"
QWEN2_5_VL = "qwen2_5_vl"
QWEN3_VL = "qwen3_vl"
QWEN3_VL_MOE = "qwen3_vl_moe"
_KNOWN = {
    QWEN2_VL: KnownModel("Qwen2-VL", ("answerer=qwen2_vl_7b", "sampler=gens_3b")),
    QWEN2_5_VL: KnownModel("Qwen2.5-VL", ("answerer=qwen2_5_vl_7b", "sampler=gens_3b")),
    QWEN3_VL: KnownModel("Qwen3-VL", ("answerer=qwen3_vl_8b",)),
    QWEN3_VL_MOE: KnownModel("Qwen3-VL with experts", ("answerer=qwen3_vl_30b_a3b",)),
}
NAMES = {kind: _KNOWN[kind].name for kind in (QWEN2_VL, QWEN2_5_VL)}
NAMES_3 = {kind: _KNOWN[kind].name for kind in (QWEN3_VL, QWEN3_VL_MOE)}


def known_model(config: Mapping[str, Any]) -> KnownModel | None:
    """The model of a ``config.json``; None where it is none of this family."""
    return _KNOWN.get(str(config.get("model_type")))


def open_images(checkpoint: Checkpoint, max_pixels: int) -> Opened[Any]:
    """For a sampler that shows one frame at a time as an image of ``max_pixels`` at most.

    Raises:
        CheckpointError: a file is missing, or is another model's.
        ConfigError: the family has no frames as small as that.
    """
    from pipeline.families.qwen import processor

    return processor.open_images(checkpoint, max_pixels)
