"""The model ``gens`` of lmms-eval. Imports nothing: an entry point that fails takes those of other packages with it."""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """Where lmms-eval finds the model."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("gens", chat_class_path="gens_lmms_eval.model.Gens")
