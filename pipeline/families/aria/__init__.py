"""Aria (Li et al. 2024, arXiv 2410.05993), and GenS, which is this model trained further (``yi_vl``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.families.known import KnownModel

ARIA = "aria"
YI_VL = "yi_vl"
_KNOWN = {
    ARIA: KnownModel("Aria", ("answerer=aria", "sampler=gens")),
    YI_VL: KnownModel("GenS (yi_vl)", ("sampler=gens",)),
}
NAMES = {kind: known.name for kind, known in _KNOWN.items()}


def full_config(config: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """With the defaults of GenS's authors, in the words of transformers.

    Raises:
        CheckpointError: it says what Aria cannot be.
    """
    from pipeline.families.aria.yi_vl_config import aria_config

    return aria_config(config, source) if config.get("model_type") == YI_VL else config


def known_model(config: Mapping[str, Any]) -> KnownModel | None:
    """The model of a ``config.json``; None where it is none of this family."""
    return _KNOWN.get(str(config.get("model_type")))
