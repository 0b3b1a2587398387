"""A tiny random Aria in the layout of the hub's repositories: tensor names, config keys, tokenizer files."""

from __future__ import annotations

from pathlib import Path

import tiny_encoders
from tiny import _write
from tiny_yi_vl import write_tokenizer


def write_aria(folder: Path, seed: int = 0, context: int = 65536) -> Path:
    """Frames of 128 tokens. Its generation settings name one end only, and not that of a turn."""
    from transformers import AriaConfig, AriaForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder)
    config = {
        "architectures": ["AriaForConditionalGeneration"],
        "model_type": "aria",
        "dtype": "float32",
        "image_token_index": 9,
        "projector_patch_to_query_dict": {"1225": 128, "4900": 256},
        "tie_word_embeddings": False,
        "vision_feature_layer": -1,
        "text_config": {
            "model_type": "aria_text",
            "hidden_size": 32,
            "intermediate_size": 16,
            "max_position_embeddings": context,
            "moe_num_experts": 4,
            "moe_num_shared_experts": 2,
            "moe_topk": 2,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "rope_theta": 5000000,
            "vocab_size": vocabulary,
        },
        "vision_config": {
            "model_type": "idefics3_vision",
            "hidden_size": 16,
            "image_size": 980,
            "intermediate_size": 32,
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "patch_size": 14,
        },
    }
    tiny_encoders._save(folder, AriaForConditionalGeneration, AriaConfig, config, seed)
    _write(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    return folder
