"""A tiny random InternVL3 in the layout of the ``-hf`` repositories: pictures of 56 pixels, 4 tokens a frame."""

from __future__ import annotations

from pathlib import Path

import tiny_encoders
from tiny import _text_config, _write, _write_tokenizer

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_internvl(folder: Path, seed: int = 0, context: int = 32768) -> Path:
    """A Qwen2 behind an InternViT, as all but the 9B model."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    tokens = _write_tokenizer(folder, ("<img>", "</img>", "<IMG_CONTEXT>", "<video>"), TEMPLATE)
    (folder / "chat_template.json").unlink()
    generation = (folder / "generation_config.json").read_bytes()
    config = {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "dtype": "float32",
        "downsample_ratio": 0.5,
        "image_seq_length": 4,
        "image_token_id": tokens["<IMG_CONTEXT>"],
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": False,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "text_config": _text_config(tokens, context) | {"model_type": "qwen2", "tie_word_embeddings": False},
        "vision_config": {
            "model_type": "internvl_vision",
            "attention_bias": True,
            "hidden_size": 32,
            "image_size": [56, 56],
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "patch_size": [14, 14],
        },
    }
    _write(
        folder / "preprocessor_config.json",
        {
            "crop_to_patches": False,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.485, 0.456, 0.406],
            "image_processor_type": "GotOcr2ImageProcessorFast",
            "image_std": [0.229, 0.224, 0.225],
            "max_patches": 12,
            "min_patches": 1,
            "processor_class": "InternVLProcessor",
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": 56, "width": 56},
        },
    )
    tiny_encoders._save(folder, InternVLForConditionalGeneration, InternVLConfig, config, seed)
    (folder / "generation_config.json").write_bytes(generation)
    return folder
