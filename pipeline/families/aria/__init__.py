"""Aria (Li et al. 2024, arXiv 2410.05993), and GenS, which is this model trained further, by their ``config.json``.

``yi_vl``, the type of GenS's authors, is Aria before its release: the same model under other names, with a DeepSeek
language model whose experts lie one by one. Here its config is put in the words of transformers' Aria, or refused with
the key that Aria has no words for. It leaves out whatever equals a default of the authors' classes (``yivl_config.py``
and ``configuration_deepseek.py`` in github.com/yaolinli/GenS), so absent keys mean those defaults and not Aria's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.families.known import KnownModel, override

ARIA = "aria"
YI_VL = "yi_vl"
_KNOWN = {
    ARIA: KnownModel("Aria", ("answerer=aria", "sampler=gens")),
    YI_VL: KnownModel("GenS (yi_vl)", ("sampler=gens",)),
}
NAMES = {kind: known.name for kind, known in _KNOWN.items()}
PATCH = 14
CANVAS = 490
"""Pixels of a frame's side: the only size that the authors' sampler uses."""

_ABSENT_TEXT = {
    "vocab_size": 100352,
    "hidden_size": 4096,
    "moe_intermediate_size": 1407,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "eos_token_id": 2,
    "norm_topk_prob": False,
}
_ABSENT_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "layer_norm_eps": 1e-6,
}
# What Aria cannot be, and what a key that is absent means.
_TOP_MUST_BE = {
    "mm_projector": ("resampler", "mlp"),
    "vision_feature_select_strategy": ("full", "default"),
    "mm_use_im_start_end": (True, True),
    "quantization_config": (None, None),
}
_TEXT_MUST_BE = {
    "model_type": ("deepseek", "llama"),
    "first_k_dense_replace": (0, 0),
    "moe_layer_freq": (1, 1),
    "scoring_func": ("softmax", "softmax"),
    "hidden_act": ("silu", "silu"),
    "rope_scaling": (None, None),
    "attention_bias": (False, False),
    "pretraining_tp": (1, 1),
    "tie_word_embeddings": (False, False),
}
_VISION_MUST_BE = {
    "model_type": ("custom_siglip_vision_model", "clip_vision_model"),
    "hidden_act": ("gelu_pytorch_tanh", "gelu_pytorch_tanh"),
    "num_channels": (3, 3),
    "patch_size": (PATCH, 16),
}


def full_config(config: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """With the defaults of GenS's authors, in the words of transformers.

    Raises:
        CheckpointError: it says what Aria cannot be.
    """
    return aria_config(config, source) if config.get("model_type") == YI_VL else config


def known_model(config: Mapping[str, Any]) -> KnownModel | None:
    """The model of a ``config.json``; None where it is none of this family."""
    return _KNOWN.get(str(config.get("model_type")))


def renormalises(raw: Mapping[str, Any]) -> bool:
    """Whether the weights of the chosen experts are made to sum to 1 (``norm_topk_prob``); Aria's own always do."""
    found = _section(raw, "text_config").get("norm_topk_prob", _ABSENT_TEXT["norm_topk_prob"])
    return bool(found)


def aria_config(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """``AriaConfig``'s arguments for a ``yi_vl`` config.

    Args:
        raw: the unchanged ``config.json``.
        source: whose it is, for messages.

    Raises:
        CheckpointError: a key says what Aria cannot be, or a number is missing or impossible.
    """
    text = _section(raw, "text_config")
    vision = _section(raw, "vision_config")
    _check("", raw, _TOP_MUST_BE, source)
    _check("text_config.", text, _TEXT_MUST_BE, source)
    _check("vision_config.", vision, _VISION_MUST_BE, source)
    for key in ("n_routed_experts", "num_experts_per_tok", "n_shared_experts"):
        if not isinstance(text.get(key), int) or text[key] < 1:
            raise _refusal(source, f"text_config.{key}", text.get(key), "a number above 0: Aria has experts")
    text = {**_ABSENT_TEXT, **text}
    vision = {**_ABSENT_VISION, **vision}
    if text["num_experts_per_tok"] > text["n_routed_experts"]:
        raise _refusal(
            source,
            "text_config.num_experts_per_tok",
            text["num_experts_per_tok"],
            f"{text['n_routed_experts']} at most",
        )
    if vision["image_size"] % PATCH:
        raise _refusal(source, "vision_config.image_size", vision["image_size"], f"a multiple of {PATCH}")
    return {
        # `vision_feature_layer` of the authors' config is not read by their code: it takes the last layer's output.
        "vision_feature_layer": -1,
        "image_token_index": raw.get("image_token_index", 9),
        "tie_word_embeddings": False,
        "projector_patch_to_query_dict": _queries(raw.get("tokens_per_image", 128), vision["image_size"], source),
        "text_config": {
            "model_type": "aria_text",
            "intermediate_size": text["moe_intermediate_size"],
            "moe_num_experts": text["n_routed_experts"],
            "moe_topk": text["num_experts_per_tok"],
            "moe_num_shared_experts": text["n_shared_experts"],
            "rope_parameters": {"rope_type": "default", "rope_theta": float(text["rope_theta"])},
            "bos_token_id": None,
            "pad_token_id": None,
            **{
                key: text[key]
                for key in (
                    "vocab_size",
                    "hidden_size",
                    "num_hidden_layers",
                    "num_attention_heads",
                    "num_key_value_heads",
                    "max_position_embeddings",
                    "rms_norm_eps",
                    "eos_token_id",
                )
            },
        },
        "vision_config": {
            "model_type": "idefics3_vision",
            "hidden_act": "gelu_pytorch_tanh",
            **{key: vision[key] for key in (*_ABSENT_VISION,)},
        },
    }


def _queries(tokens_per_image: Any, image_size: int, source: str) -> dict[int, int]:
    """Patches to queries. Of a list the authors' resampler takes the least wherever the image is not of full size."""
    full = (image_size // PATCH) ** 2
    small = (CANVAS // PATCH) ** 2
    counts = tokens_per_image if isinstance(tokens_per_image, list) else [tokens_per_image]
    if not counts or any(not isinstance(count, int) or count < 1 for count in counts):
        raise _refusal(source, "tokens_per_image", tokens_per_image, "a number or a list of numbers above 0")
    return {full: max(counts), small: min(counts) if small < full else max(counts)}


def _section(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = raw.get(key)
    return dict(found) if isinstance(found, Mapping) else {}


def _check(prefix: str, section: Mapping[str, Any], must_be: Mapping[str, tuple[Any, Any]], source: str) -> None:
    for key, (wanted, absent) in must_be.items():
        found = section.get(key, absent)
        if found != wanted:
            raise _refusal(source, prefix + key, found, repr(wanted))


def _refusal(source: str, key: str, found: Any, wanted: str) -> CheckpointError:
    return CheckpointError(
        f"config.json of {source} has {key}={found!r}; of the yi_vl models only those can be represented where it is "
        f"{wanted}.",
        f"Restore the checkpoint's own config.json, or name another checkpoint: {override('source')}.",
    )
