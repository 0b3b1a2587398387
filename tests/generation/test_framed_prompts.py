"""Answers over shared frames against stock ``generate`` on each whole prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from asking import written
from transformers import GenerationConfig

from pipeline.families.chat import IMAGE, FrameLabels, text
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.qwen.model import QwenModel, load_qwen
from pipeline.families.qwen.processor import FrameScale, ImagesForm, QwenProcessor, open_processor
from pipeline.families.seam import PreparedFrame, Prompt, Turn
from pipeline.generation.framed_prompts import FramedPrompts
from pipeline.generation.limits import OutputLimits
from pipeline.generation.texts import Generated

pytestmark = pytest.mark.moving

NEW = 8


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder: Path = tiny.write_qwen2_vl(tmp_path_factory.mktemp("qwen"))
    return Checkpoint(str(folder), None, "float32", "sdpa", "cpu")


@pytest.fixture(scope="module")
def processor(checkpoint: Checkpoint) -> QwenProcessor:
    return open_processor(checkpoint, FrameScale(784, 12544, None), ImagesForm(FrameLabels("", "")), None)


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint, processor: QwenProcessor) -> QwenModel:
    return load_qwen(checkpoint, processor)


@pytest.fixture
def lengths(model: QwenModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each prefill reads."""
    prefill, found = model.prefill, []

    def counted(prompt: Prompt, length: int, cache: Any) -> int:
        found.append(length)
        return prefill(prompt, length, cache)

    monkeypatch.setattr(model, "prefill", counted)
    return found


def pictures(processor: QwenProcessor, count: int, seed: int) -> tuple[PreparedFrame, ...]:
    dice = np.random.default_rng(seed)
    return tuple(processor.prepare(dice.integers(0, 256, (56, 56, 3), dtype=np.uint8)) for _ in range(count))


def asked(processor: QwenProcessor, shown: tuple[PreparedFrame, ...], words: str, before: str = "") -> Prompt:
    turn = Turn([text(before), *[IMAGE] * len(shown), text(words)])
    ids = np.array(processor.encode(turn, [frame.shape.tokens for frame in shown]))
    return Prompt(ids, shown, processor.frames_end(ids))


def generate_texts(model: QwenModel, tokenizer: Any, prompts: list[Prompt], limits: OutputLimits) -> list[Any]:
    return written(FramedPrompts(model.language, model.prefix, tokenizer, limits, model.row_buffers), prompts)


def by_stock(processor: QwenProcessor, model: QwenModel, prompt: Prompt) -> tuple[int, ...]:
    import torch

    tokenizer, network = processor.tokenizer, model.network
    ends = [int(tokenizer.eos_token_id), int(tokenizer.convert_tokens_to_ids("<|endoftext|>"))]
    kept, network.generation_config = network.generation_config, GenerationConfig(eos_token_id=ends, pad_token_id=0)
    given = model.arguments(prompt, prompt.tokens)
    mask = torch.ones_like(given["input_ids"])
    written = network.generate(**given, attention_mask=mask, do_sample=False, max_new_tokens=NEW)
    network.generation_config = kept
    return tuple(token for token in written[0, prompt.tokens :].tolist() if token not in ends)


WORDS = ("Why?", "What colour is the square that appears after the circle?", "What", "Why is it so?")


def test_questions_about_the_same_frames_share_their_reading(
    processor: QwenProcessor, model: QwenModel, lengths: list[int]
) -> None:
    shown = pictures(processor, 3, seed=0)
    prompts = [asked(processor, shown, words) for words in WORDS]
    together = generate_texts(model, processor.tokenizer, prompts, OutputLimits(NEW))
    assert len(lengths) == 1
    assert prompts[0].input_ids[lengths[0] - 1] == prompts[1].input_ids[lengths[0] - 1]
    assert [one.tokens for one in together] == [by_stock(processor, model, prompt) for prompt in prompts]
    assert len({one.tokens for one in together}) > 1


def test_other_frames_or_other_words_before_them_are_read_apart(
    processor: QwenProcessor, model: QwenModel, lengths: list[int]
) -> None:
    one, same_size, shorter = (
        pictures(processor, 3, seed=1),
        pictures(processor, 3, seed=2),
        pictures(processor, 2, seed=1),
    )
    prompts = [
        asked(processor, one, WORDS[0]),
        asked(processor, same_size, WORDS[0]),
        asked(processor, one, WORDS[1], before="Subtitle: hello."),
        asked(processor, shorter, WORDS[0]),
        asked(processor, one, WORDS[1]),
    ]
    together = generate_texts(model, processor.tokenizer, prompts, OutputLimits(NEW))
    assert len(lengths) == 4
    assert [each.tokens for each in together] == [by_stock(processor, model, prompt) for prompt in prompts]


def test_the_same_question_twice_is_answered_twice(processor: QwenProcessor, model: QwenModel) -> None:
    shown = pictures(processor, 2, seed=3)
    prompts = [asked(processor, shown, WORDS[0])] * 2
    first, second = generate_texts(model, processor.tokenizer, prompts, OutputLimits(NEW))
    assert first == second
    assert first.tokens == by_stock(processor, model, prompts[0])


def test_the_limit_and_the_models_own_end_are_told_apart(processor: QwenProcessor, model: QwenModel) -> None:
    prompt = asked(processor, pictures(processor, 2, seed=4), WORDS[1])
    (cut,) = generate_texts(model, processor.tokenizer, [prompt], OutputLimits(3))
    assert (len(cut.tokens), cut.ended) == (3, False)
    before = model.network.generation_config.eos_token_id
    model.network.generation_config.eos_token_id = [cut.tokens[1]]
    try:
        (ended,) = generate_texts(model, processor.tokenizer, [prompt], OutputLimits(3))
    finally:
        model.network.generation_config.eos_token_id = before
    until = cut.tokens[: cut.tokens.index(cut.tokens[1])]
    assert ended == Generated(processor.tokenizer.decode(until), until, ended=True)


def test_a_repetition_penalty_of_the_checkpoint_does_not_apply(processor: QwenProcessor, model: QwenModel) -> None:
    assert model.network.generation_config.repetition_penalty == 1.05
    prompt = asked(processor, pictures(processor, 2, seed=5), WORDS[2])
    (found,) = generate_texts(model, processor.tokenizer, [prompt], OutputLimits(NEW))
    for token in found.tokens:
        logits = model.network(**model.arguments(prompt, prompt.tokens)).logits[0, -1]
        assert token == int(logits.argmax())
        prompt = replace(prompt, input_ids=np.append(prompt.input_ids, token))
