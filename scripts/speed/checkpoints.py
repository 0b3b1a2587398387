"""Checkpoint folders with everything but the weights: config, tokenizer, image settings.

The tokenizers are trained on the prompts' own words, so that a prompt has about as many tokens as with the real ones,
and have as many entries, so that every token that a model with random weights writes has a text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.speed.shapes import Shape

_TEXT = (
    "Please identify the video frames most relevant to the given question and provide their timestamps in seconds "
    "along with a relevance score. The score should be on a scale from 1 to 5, where higher scores indicate greater "
    'relevance. Return the output strictly in the following JSON format: {"timestamp": score, ...}.',
    "Question: What does the person in the white coat put on the table after the bell has rung for the second time?",
    "Answer with the option's letter from the given choices directly. Select the best answer to the following "
    "multiple-choice question. Options: A. B. C. D. The video lasts seconds, and frames were selected from it, located "
    "at. You are a helpful assistant. system user assistant [0] [12] [255] 0.0s: 12.5s: 1024.0s:",
)
_QWEN_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_ARIA_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for item in message['content'] %}"
    "{% if item['type'] == 'text' %}{{ item['text'] }}{% else %}<fim_prefix><|img|><fim_suffix>{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_ARIA_MARKERS = ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|img|>")
"""Ids 3 to 9, after ``<unk>``, ``<|startoftext|>`` and ``<|endoftext|>``."""
_IMAGES = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "max_pixels": 12845056,
    "merge_size": 2,
    "min_pixels": 3136,
    "patch_size": 14,
    "temporal_patch_size": 2,
}
_TOWER_LAYER = "model.vision_tower.vision_tower.vision_model.encoder.layers.{}.mlp.fc1.weight"


def write_checkpoint(folder: Path, shape: Shape) -> Path:
    """The folder of a model; its weight file holds no weight of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", shape.config)
    _write(folder / "generation_config.json", {})
    if shape.tokenizer == "aria":
        _write_sentencepiece(folder)
    else:
        _write_words(folder, shape)
        _write(folder / "preprocessor_config.json", _IMAGES)
    _write_weight_file(folder / "model.safetensors", shape)
    return folder


def _write_words(folder: Path, shape: Shape) -> None:
    """A byte-level BPE; entries that no text becomes follow those of the prompts."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
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
    tokenizer.train_from_iterator(
        _TEXT, trainers.BpeTrainer(vocab_size=shape.tokens, initial_alphabet=alphabet, show_progress=False)
    )
    content = json.loads(tokenizer.to_str())
    words: dict[str, int] = content["model"]["vocab"]
    for number in range(len(words), shape.tokens):
        words[f"Ġword{number}"] = number
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in shape.special])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "chat_template": _QWEN_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "model_max_length": 32768,
            "pad_token": "<|endoftext|>",
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def _write_sentencepiece(folder: Path) -> None:
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_TEXT),
        model_writer=model,
        model_type="bpe",
        vocab_size=900,
        hard_vocab_limit=False,
        character_coverage=1.0,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        bos_piece="<|startoftext|>",
        eos_piece="<|endoftext|>",
        user_defined_symbols=list(_ARIA_MARKERS),
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    _write(
        folder / "tokenizer_config.json",
        {"add_bos_token": False, "add_eos_token": False, "chat_template": _ARIA_TEMPLATE, "legacy": True},
    )


def _write_weight_file(path: Path, shape: Shape) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {"none.weight": torch.zeros(1, dtype=torch.bfloat16)}
    width = shape.config.get("mm_hidden_size")
    if width is not None:
        tensors |= {_TOWER_LAYER.format(layer): torch.zeros(40, width, dtype=torch.bfloat16) for layer in range(2)}
    save_file(tensors, path, metadata={"format": "pt"})


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
