"""Tiny random checkpoints of the real architectures, in the layout of the hub's repositories.

Their answers are noise; everything else about them (files, tokenizer, templates, tensor names) is as real models have
it. Each writer takes about a second and less than a megabyte.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_VISION = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
LLAVA_VISION = ("<image>", "<video>")

QWEN_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Pictures first, whatever the order of the content: so does the template of the llava-hf repositories.
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\\n' + content['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_WORDS = (
    "The best answer is A. The best answer is B. C D E (A) (B) 0.0s: 1.0s: 12.5s: 100.0s:\n"
    "What colour is the square that appears after the circle? red green blue yellow\n"
    "Question: options: Answer with the option's letter from the given choices directly. relevant frames video\n"
    '{"0": 5, "1": 4, "12-15": 3} score timestamp seconds JSON format\n'
)


def write_qwen2_vl(folder: Path, seed: int = 0, context: int = 32768) -> Path:
    """A Qwen2-VL with two layers in ``folder``; flat ``config.json`` as on the hub."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    tokens = _write_tokenizer(folder, QWEN_VISION, QWEN_TEMPLATE)
    config = _qwen_config(tokens, context) | {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "vision_config": {
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 64,
            "in_chans": 3,
            "mlp_ratio": 2,
            "num_heads": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
        },
    }
    _write_qwen_preprocessor(folder, "Qwen2VLImageProcessor")
    return _write_weights(folder, Qwen2VLForConditionalGeneration, Qwen2VLConfig, config, seed)


def write_qwen2_5_vl(folder: Path, seed: int = 0, context: int = 32768) -> Path:
    """A Qwen2.5-VL with two layers in ``folder``; flat ``config.json`` as on the hub."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokens = _write_tokenizer(folder, QWEN_VISION, QWEN_TEMPLATE)
    config = _qwen_config(tokens, context) | {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "vision_config": {
            "depth": 2,
            "hidden_act": "silu",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "in_chans": 3,
            "out_hidden_size": 64,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
    }
    _write_qwen_preprocessor(folder, "Qwen2_5_VLImageProcessor")
    return _write_weights(folder, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig, config, seed)


def write_llava_onevision(folder: Path, seed: int = 0, context: int = 32768) -> Path:
    """A LLaVA-OneVision in ``folder``: pictures of 56 pixels, 4 x 4 patches, 2 x 2 tokens a video frame."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    tokens = _write_tokenizer(folder, LLAVA_VISION, LLAVA_TEMPLATE)
    side = 56
    config = {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "dtype": "float32",
        "image_token_index": tokens["<image>"],
        "video_token_index": tokens["<video>"],
        "image_grid_pinpoints": [[side, side], [side, 2 * side], [2 * side, side]],
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": False,
        "vision_aspect_ratio": "anyres_max_9",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "text_config": _text_config(tokens, context) | {"model_type": "qwen2"},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": side,
            "patch_size": 14,
            "vision_use_head": False,
        },
    }
    _write(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "processor_class": "LlavaOnevisionProcessor",
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "do_pad": True,
            "image_grid_pinpoints": config["image_grid_pinpoints"],
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": side, "width": side},
        },
    )
    _write(
        folder / "processor_config.json",
        {
            "image_token": "<image>",
            "num_image_tokens": 16,
            "processor_class": "LlavaOnevisionProcessor",
            "video_token": "<video>",
            "vision_feature_select_strategy": "full",
        },
    )
    return _write_weights(folder, LlavaOnevisionForConditionalGeneration, LlavaOnevisionConfig, config, seed)


def _text_config(tokens: dict[str, int], context: int) -> dict[str, Any]:
    return {
        "attention_dropout": 0.0,
        "bos_token_id": tokens["<|endoftext|>"],
        "eos_token_id": tokens["<|im_end|>"],
        "hidden_act": "silu",
        "hidden_size": 64,
        # Wide enough that what the model sees changes what it says.
        "initializer_range": 0.2,
        "intermediate_size": 128,
        "max_position_embeddings": context,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": -(-len(tokens) // 8) * 8,
    }


def _qwen_config(tokens: dict[str, int], context: int) -> dict[str, Any]:
    return _text_config(tokens, context) | {
        "image_token_id": tokens["<|image_pad|>"],
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "video_token_id": tokens["<|video_pad|>"],
        "vision_end_token_id": tokens["<|vision_end|>"],
        "vision_start_token_id": tokens["<|vision_start|>"],
        "vision_token_id": tokens["<|vision_pad|>"],
    }


def _write_tokenizer(folder: Path, vision: tuple[str, ...], template: str) -> dict[str, int]:
    """A byte-level BPE of a few hundred tokens, with Qwen's pre-tokenizer and special tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([_WORDS], trainer)
    special = (*QWEN_SPECIAL, *vision)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json, merges.txt
    ids = tokenizer.get_vocab()
    _write(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(ids[token]): {
                    "content": token,
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": True,
                }
                for token in special
            },
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>", *vision],
            "bos_token": None,
            "chat_template": template,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 32768,
            "pad_token": "<|endoftext|>",
            "padding_side": "left",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    _write(folder / "chat_template.json", {"chat_template": template})
    # The hub's generation settings, sampling and all: what runs greedily must not take them over.
    _write(
        folder / "generation_config.json",
        {
            "bos_token_id": ids["<|endoftext|>"],
            "do_sample": True,
            "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
            "pad_token_id": ids["<|endoftext|>"],
            "repetition_penalty": 1.05,
            "temperature": 0.01,
            "top_k": 1,
            "top_p": 0.001,
        },
    )
    return dict(ids)


def _write_qwen_preprocessor(folder: Path, kind: str) -> None:
    _write(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": kind,
            "processor_class": kind.replace("ImageProcessor", "Processor"),
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "max_pixels": 12845056,
            "merge_size": 2,
            "min_pixels": 3136,
            "patch_size": 14,
            "temporal_patch_size": 2,
        },
    )


def _write_weights(folder: Path, model_class: Any, config_class: Any, config: dict[str, Any], seed: int) -> Path:
    import torch

    generation = (folder / "generation_config.json").read_bytes()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # A config takes its dict apart, so it is given a copy.
        model_class(config_class(**json.loads(json.dumps(config)))).save_pretrained(folder)
    (folder / "generation_config.json").write_bytes(generation)
    _write(folder / "config.json", config)
    return folder


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
