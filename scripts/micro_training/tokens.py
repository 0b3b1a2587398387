"""The micro models' tokenizer: byte-level BPE; every word of the micro world and every number to 999 is one token."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.benchmarks.micro.world import COLORS, SHAPES

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
QWEN_SPECIAL = (
    PAD,
    START,
    END,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
LLAVA_SPECIAL = (PAD, START, END, "<image>", "<video>")
# Letters and digits apart, at most three digits; a blank goes with the word after it, as in GPT-2 and Qwen.
_PIECES = r" ?[A-Za-z]+| ?\d{1,3}| ?[^\sA-Za-z\d]+|\s+(?!\S)|\s+"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'video' %}VIDEO"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_TEMPLATE = CHAT_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>").replace(
    "VIDEO", "<|vision_start|><|video_pad|><|vision_end|>"
)
LLAVA_TEMPLATE = CHAT_TEMPLATE.replace("IMAGE", "<image>\n").replace("VIDEO", "<video>\n")


def corpus(prompts: list[str]) -> list[str]:
    """Everything that must come out as one token a word."""
    things = [f"{color} {shape}" for color, shape in product(COLORS, SHAPES)]
    questions = [
        "What color is the {}? What shape is the {} object? How many times does the {} appear?",
        "What appears immediately before the {}? What appears immediately after the {}?",
        "A. {}\nB. {}\nC. {}\nD. {}\n{}\n0.0s: 1.5s: \n[1]",
    ]
    lines = [question.replace("{}", thing) for question, thing in product(questions, [*things, *COLORS, *SHAPES])]
    lines += [f"{word}\n{word}" for word in (*things, *COLORS, *SHAPES)]
    lines += ["user\n", "assistant\n", "system\n", '{"11-12": 5, "16-21": 4, "28": 3, "33": 2, "4": 1}', "{}"] * 9
    return lines + prompts * 3 + [str(number) for number in range(1000)] * 2


def build(folder: Path, special: tuple[str, ...], template: str, prompts: list[str], context: int) -> int:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``; gives the size of the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(prompts), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": END,
        "bos_token": None,
        "unk_token": None,
        "model_max_length": context,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return int(tokenizer.get_vocab_size())
