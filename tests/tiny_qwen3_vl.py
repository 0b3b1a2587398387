"""Tiny random Qwen3-VL checkpoints that answer: dense, and with experts, in the layout of the hub's repositories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tiny_encoders
from tiny import _write

_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "decoder_sparse_step": 1}


def write_qwen3_vl(folder: Path, seed: int = 0, context: int = 262144) -> Path:
    """A dense one, its head tied to the embeddings as that of the 2B model."""
    tiny_encoders.write_qwen3_vl(folder, seed)
    config = _config(folder)
    config["text_config"]["max_position_embeddings"] = context
    _write(folder / "config.json", config)
    return folder


def write_qwen3_vl_moe(folder: Path, seed: int = 0, context: int = 262144) -> Path:
    """One with experts and a head of its own. Its experts lie as ``[experts, inputs, outputs]``."""
    from safetensors.torch import load_file, save_file
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    tiny_encoders.write_qwen3_vl(folder, seed)
    config = _config(folder)
    config |= {"model_type": "qwen3_vl_moe", "architectures": ["Qwen3VLMoeForConditionalGeneration"]}
    config["tie_word_embeddings"] = False
    config["vision_config"]["model_type"] = "qwen3_vl_moe"
    config["text_config"] |= _EXPERTS | {"model_type": "qwen3_vl_moe_text", "max_position_embeddings": context}
    tiny_encoders._save(folder, Qwen3VLMoeForConditionalGeneration, Qwen3VLMoeConfig, config, seed)
    tensors = load_file(folder / "model.safetensors")
    as_published = {
        name: tensor.mT.contiguous() if ".mlp.experts." in name else tensor for name, tensor in tensors.items()
    }
    save_file(as_published, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return found
