"""The models that are measured, at their real sizes, and tiny ones of the same architectures.

Sources of the sizes: ``config.json`` of rhymes-ai/Aria (which GenS is made of), Qwen/Qwen2.5-VL-3B-Instruct (GenS-3B),
Qwen/Qwen2-VL-7B-Instruct and lmms-lab/LLaVA-Video-7B-Qwen2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

QWEN_TOKENS = 151_643
"""Of Qwen2's vocabulary without its special tokens."""
_TINY_TOKENS = 2_000
_QWEN_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)


@dataclass(frozen=True)
class Shape:
    """One model without its weights."""

    name: str
    """Of the sampler or the answerer whose settings it runs with."""
    tokenizer: Literal["qwen", "llava_video", "aria"]
    config: Mapping[str, Any]
    """``config.json``."""
    tokens: int
    """Words of the tokenizer before its special tokens; 0 for Aria's, which is SentencePiece."""

    @property
    def special(self) -> tuple[str, ...]:
        """Special tokens, which follow the words."""
        return _QWEN_SPECIAL[:3] if self.tokenizer == "llava_video" else _QWEN_SPECIAL


def shape_of(name: str, tiny: bool) -> Shape:
    """The shape of a sampler's or an answerer's model."""
    tokens = _TINY_TOKENS if tiny else QWEN_TOKENS
    if name == "gens":
        return Shape(name, "aria", _aria(tiny), 0)
    if name == "gens_3b":
        return Shape(name, "qwen", _qwen2_5_vl(tiny, tokens), tokens)
    if name == "qwen2_vl_7b":
        return Shape(name, "qwen", _qwen2_vl(tiny, tokens), tokens)
    assert name == "llava_video_7b"
    return Shape(name, "llava_video", _llava_video(tiny, tokens), tokens)


def _aria(tiny: bool) -> dict[str, Any]:
    text = {
        "hidden_size": 2560,
        "intermediate_size": 1664,
        "moe_num_experts": 64,
        "moe_topk": 6,
        "moe_num_shared_experts": 2,
        "num_attention_heads": 20,
        "num_hidden_layers": 28,
        "num_key_value_heads": 20,
        "vocab_size": 100352,
    }
    vision = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27}
    if tiny:
        text |= {"hidden_size": 32, "intermediate_size": 16, "moe_num_experts": 4, "moe_topk": 2, "vocab_size": 1000}
        text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2}
        vision = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    return {
        "architectures": ["AriaForConditionalGeneration"],
        "model_type": "aria",
        "dtype": "bfloat16",
        "image_token_index": 9,
        "projector_patch_to_query_dict": {"1225": 128, "4900": 256},
        "tie_word_embeddings": False,
        "vision_feature_layer": -1,
        "text_config": {
            "model_type": "aria_text",
            "max_position_embeddings": 65536,
            "rope_theta": 5_000_000,
            **text,
        },
        "vision_config": {"model_type": "idefics3_vision", "image_size": 980, "patch_size": 14, **vision},
    }


def _qwen_ids(tokens: int) -> dict[str, int]:
    place = {word: tokens + number for number, word in enumerate(_QWEN_SPECIAL)}
    return {
        "bos_token_id": place["<|endoftext|>"],
        "eos_token_id": place["<|im_end|>"],
        "image_token_id": place["<|image_pad|>"],
        "video_token_id": place["<|video_pad|>"],
        "vision_end_token_id": place["<|vision_end|>"],
        "vision_start_token_id": place["<|vision_start|>"],
        "vision_token_id": place["<|vision_pad|>"],
    }


def _qwen_text(tiny: bool, sizes: Mapping[str, Any]) -> dict[str, Any]:
    if tiny:
        few = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
        sizes = few | {"num_hidden_layers": 2, "vocab_size": _TINY_TOKENS + 48}
    return {
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        **sizes,
    }


_QWEN2_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
}


def _rope(tiny: bool) -> dict[str, Any]:
    return {"type": "mrope", "mrope_section": [2, 3, 3] if tiny else [16, 24, 24]}


def _qwen2_5_vl(tiny: bool, tokens: int) -> dict[str, Any]:
    text = _qwen_text(
        tiny,
        {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "max_position_embeddings": 128000,
            "num_attention_heads": 16,
            "num_hidden_layers": 36,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
        },
    )
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
    full = [7, 15, 23, 31]
    if tiny:
        vision, full = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2}, [1]
    return {
        **text,
        **_qwen_ids(tokens),
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "rope_scaling": _rope(tiny),
        "tie_word_embeddings": True,
        "vision_config": {
            **vision,
            "fullatt_block_indexes": full,
            "hidden_act": "silu",
            "in_chans": 3,
            "out_hidden_size": text["hidden_size"],
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
        },
    }


def _qwen2_vl(tiny: bool, tokens: int) -> dict[str, Any]:
    text = _qwen_text(tiny, _QWEN2_7B)
    vision = {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16}
    if tiny:
        vision = {"depth": 2, "embed_dim": 32, "mlp_ratio": 2, "num_heads": 2}
    return {
        **text,
        **_qwen_ids(tokens),
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "rope_scaling": _rope(tiny),
        "tie_word_embeddings": False,
        "vision_config": {
            **vision,
            "hidden_size": text["hidden_size"],
            "in_chans": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
        },
    }


def _llava_video(tiny: bool, tokens: int) -> dict[str, Any]:
    return {
        **_qwen_text(tiny, _QWEN2_7B),
        "add_faster_video": False,
        "add_time_instruction": True,
        "architectures": ["LlavaQwenForCausalLM"],
        "bos_token_id": tokens,
        "eos_token_id": tokens + 2,
        # Of a tower as narrow as the tiny one the family reads the other sizes off the tensors: see the weight file.
        "mm_hidden_size": 32 if tiny else 1152,
        "mm_newline_position": "grid",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "model_type": "llava",
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": 32768,
    }
