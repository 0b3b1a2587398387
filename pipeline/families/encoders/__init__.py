"""CLIP, SigLIP and SigLIP 2, and Qwen3-VL-Embedding: models that give vectors and no text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.families.known import KnownModel

_KNOWN = {
    "clip": KnownModel("CLIP", ("sampler=clip",)),
    "siglip": KnownModel("SigLIP", ("sampler=siglip",)),
    "siglip2": KnownModel("SigLIP 2", ("sampler=siglip2",)),
}
CLIP_NAMES = {"clip": "CLIP"}
SIGLIP_NAMES = {"siglip": "SigLIP", "siglip2": "SigLIP 2"}
QWEN3_VL_EMBEDDING_NAMES = {"qwen3_vl": "Qwen3-VL-Embedding"}


def known_model(config: Mapping[str, Any]) -> KnownModel | None:
    """The model of a ``config.json``; None where it is none of these."""
    return _KNOWN.get(str(config.get("model_type")))
