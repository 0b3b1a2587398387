"""The three micro models: stock transformers architectures, small, and their folders in the hub's format."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from hydra import compose, initialize_config_dir

from pipeline.answerers.prompts import AnswerPrompt
from pipeline.config import build
from pipeline.samplers.prompt import FramePrompt
from scripts.micro_training import tokens

Kind = Literal["gens_micro", "qwen2_vl_micro", "llava_onevision_micro"]
KINDS: tuple[Kind, ...] = ("gens_micro", "qwen2_vl_micro", "llava_onevision_micro")
ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS = ROOT / "pipeline" / "checkpoints"
CONTEXT = 4096
SIDE = 56
"""Pixels of a frame's side, as the models see it."""
MEAN = STD = [0.5, 0.5, 0.5]

_TEXT = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "use_cache": True,
    "initializer_range": 0.04,
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_WIDTH, _DEPTH, _HEADS, _INNER = 128, 3, 4, 384  # of the vision towers


@dataclass(frozen=True)
class Wording:
    """The texts around frames and questions, read from the YAMLs so that they are written once."""

    sampler: FramePrompt
    answerer: AnswerPrompt
    label: str
    after: str


def wording() -> Wording:
    """From ``conf/``; all three models share it."""
    gens = yaml.safe_load((ROOT / "conf/sampler/gens_3b.yaml").read_text(encoding="utf-8"))
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        micro = compose("answerer/qwen2_vl_micro").answerer
    return Wording(
        FramePrompt(**gens["prompt"]),
        build(micro.prompt, "answerer.prompt"),
        micro.images.label,
        micro.images.after,
    )


def prepare(kind: Kind, folder: Path, seed: int = 0) -> Any:
    """Tokenizer, image settings and a model with random weights; the model's files are written by :func:`export`."""
    words = wording()
    prompts = [words.sampler.instruction, words.sampler.question, words.answerer.multiple_choice, words.answerer.free]
    torch.manual_seed(seed)
    if kind == "llava_onevision_micro":
        size = tokens.build(folder, tokens.LLAVA_SPECIAL, tokens.LLAVA_TEMPLATE, prompts, CONTEXT)
        _write_json(folder / "preprocessor_config.json", _LLAVA_IMAGES)
        return _llava(_rounded(size))
    size = tokens.build(folder, tokens.QWEN_SPECIAL, tokens.QWEN_TEMPLATE, prompts, CONTEXT)
    _write_json(folder / "preprocessor_config.json", _QWEN_IMAGES)
    return _qwen(kind, _rounded(size))


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """A model that :func:`export` wrote."""
    import transformers

    name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    return getattr(transformers, name).from_pretrained(str(folder), dtype=dtype)


def export(model: Any, source: Path, folder: Path) -> None:
    """Write the model in bfloat16 to ``folder``, with tokenizer and image settings from ``source``."""
    import copy

    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).cpu().to(torch.bfloat16).save_pretrained(str(folder))
    (folder / "model.safetensors").chmod(0o644)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        if (source / name).resolve() != (folder / name).resolve():
            shutil.copy(source / name, folder / name)


def _qwen(kind: Kind, vocabulary: int) -> Any:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
    )

    text = {
        **_TEXT,
        "vocab_size": vocabulary,
        "rope_parameters": {**_ROPE, "mrope_section": [4, 6, 6]},
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
    }
    special = {
        "tie_word_embeddings": True,
        "vision_start_token_id": 3,
        "vision_end_token_id": 4,
        "image_token_id": 6,
        "video_token_id": 7,
    }
    eyes = {"depth": _DEPTH, "num_heads": _HEADS, "in_channels": 3, "patch_size": 14, "spatial_merge_size": 2}
    eyes["temporal_patch_size"] = 2
    if kind == "gens_micro":
        vision = {**eyes, "hidden_size": _WIDTH, "intermediate_size": _INNER, "out_hidden_size": _TEXT["hidden_size"]}
        vision |= {"hidden_act": "silu", "window_size": 112, "tokens_per_second": 2}
        vision["fullatt_block_indexes"] = list(range(_DEPTH))
        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **special))
    vision = {**eyes, "embed_dim": _WIDTH, "mlp_ratio": 3, "hidden_size": _TEXT["hidden_size"]}
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, **special))


def _llava(vocabulary: int) -> Any:
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    text = {
        **_TEXT,
        "model_type": "qwen2",
        "vocab_size": vocabulary,
        "rope_parameters": _ROPE,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": _WIDTH,
        "intermediate_size": _INNER,
        "num_hidden_layers": _DEPTH,
        "num_attention_heads": _HEADS,
        "image_size": SIDE,
        "patch_size": 14,
        "vision_use_head": False,
    }
    config = LlavaOnevisionConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=3,
        video_token_id=4,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        vision_aspect_ratio="anyres_max_9",
        image_grid_pinpoints=[[SIDE, SIDE]],
        tie_word_embeddings=True,
        multimodal_projector_bias=True,
    )
    return LlavaOnevisionForConditionalGeneration(config)


def _rounded(size: int) -> int:
    return (size + 63) // 64 * 64


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


_QWEN_IMAGES = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "size": {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE},
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": MEAN,
    "image_std": STD,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "do_resize": True,
}
_LLAVA_IMAGES = {
    "image_processor_type": "LlavaOnevisionImageProcessor",
    "processor_class": "LlavaOnevisionProcessor",
    "size": {"height": SIDE, "width": SIDE},
    "image_grid_pinpoints": [[SIDE, SIDE]],
    "image_mean": MEAN,
    "image_std": STD,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "do_pad": True,
    "resample": 3,
    "rescale_factor": 1 / 255,
}
