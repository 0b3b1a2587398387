"""VILA-1.5 (Lin et al. 2023, arXiv 2312.07533): 3B, 8B, 13B and 40B."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.families.known import KnownModel

MODEL_TYPE = "llava_llama"
_KNOWN = {MODEL_TYPE: KnownModel("VILA-1.5", ("answerer=vila15_3b",))}
NAMES = {kind: known.name for kind, known in _KNOWN.items()}


def known_model(config: Mapping[str, Any]) -> KnownModel | None:
    """The model of a ``config.json``; None where it is none of this family."""
    return _KNOWN.get(str(config.get("model_type")))
