"""InternVL3 (Zhu et al. 2025, arXiv 2504.10479) in the form that transformers loads by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.families.known import KnownModel, override

INTERNVL = "internvl"
_KNOWN = {
    INTERNVL: KnownModel("InternVL3 (-hf)", ("answerer=internvl3_8b",)),
    "internvl_chat": KnownModel(
        "InternVL in the form that needs its authors' code, which is not run",
        ("answerer=internvl3_8b",),
        instead="Take the same model in transformers' form, whose name ends in -hf: answerer=internvl3_8b, "
        f"{override('source', 'OpenGVLab/InternVL3-8B-hf')}.",
    ),
}
NAMES = {INTERNVL: _KNOWN[INTERNVL].name}


def known_model(config: Mapping[str, Any]) -> KnownModel | None:
    """The model of a ``config.json``; None where it is none of this family."""
    return _KNOWN.get(str(config.get("model_type")))
