"""LLaVA-Video (Zhang et al. 2024, arXiv 2410.02713) and LLaVA-OneVision, from their authors' own checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.families.known import KnownModel, architectures

ARCHITECTURE = "LlavaQwenForCausalLM"
"""One class of LLaVA's authors for several models; where their newline tokens stand tells them apart."""
_LLAVA_VIDEO = KnownModel("LLaVA-Video", ("answerer=llava_video_7b",))
_RAW_ONEVISION = KnownModel("LLaVA-OneVision as its authors wrote it", ("answerer=llava_onevision_raw_7b",))


def known_model(config: Mapping[str, Any]) -> KnownModel | None:
    """The model of a ``config.json``; None where it is none of this family."""
    if ARCHITECTURE not in architectures(config):
        return None
    return _LLAVA_VIDEO if config.get("mm_newline_position") == "grid" else _RAW_ONEVISION
