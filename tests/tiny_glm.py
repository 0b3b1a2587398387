"""A tiny random checkpoint of GLM-4.6V, made without torchvision: with image settings in place of a whole processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny_native

PIXELS = (28 * 28, 56 * 56)
"""Limits of one frame in these checkpoints."""


def image_processor() -> Any:
    """The type's own, of PIL."""
    from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil

    return Glm46VImageProcessorPil(size=tiny_native.GLM_SIZE, **tiny_native.GLM_PATCHES)


def write_glm46v(folder: Path, seed: int = 0, context: int = 32768, template: str = tiny_native.GLM_TEMPLATE) -> Path:
    """Weights, tokenizer with its template, and image settings, as published files have them."""
    words = tiny_native.glm46v_words()
    words.chat_template = template
    tiny_native.save_glm46v(folder, tiny_native.glm46v_model(words, seed, context), words, words)
    image_processor().save_pretrained(folder)
    tiny_native.rewrite(folder, "preprocessor_config.json", processor_class="Glm46VProcessor")
    return folder


def rename(folder: Path, model_type: str, class_name: str) -> Path:
    """The same weights as another type of the family."""
    tiny_native.rewrite(folder, "config.json", model_type=model_type, architectures=[class_name])
    return folder


def write_glm4v_moe(folder: Path) -> Path:
    """The larger sizes: the same towers, and experts."""
    from transformers import Glm4vMoeConfig, Glm4vMoeForConditionalGeneration

    words = tiny_native.glm46v_words()
    words.chat_template = tiny_native.GLM_TEMPLATE
    dense = tiny_native.glm46v_model(words, 0, 32768).config.to_dict()
    experts = {
        "model_type": "glm4v_moe_text",
        "moe_intermediate_size": 32,
        "num_experts_per_tok": 2,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    }
    config = Glm4vMoeConfig(
        text_config=dense["text_config"] | experts,
        vision_config=dense["vision_config"] | {"model_type": "glm4v_moe_vision"},
        **{key: value for key, value in dense.items() if key.endswith("_token_id")},
    )
    model = tiny_native._made(lambda: Glm4vMoeForConditionalGeneration(config), 0)
    tiny_native.save_glm46v(folder, model, words, words)
    image_processor().save_pretrained(folder)
    tiny_native.rewrite(folder, "preprocessor_config.json", processor_class="Glm46VProcessor")
    return folder
