"""Answers over shared frames against stock ``generate`` on each whole prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import GenerationConfig

from pipeline.inference.framed_prompts import write_answers
from pipeline.inference.greedy import Generated
from pipeline.models.chat import IMAGE, Content, load_tokenizer, render_chat, text
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.moving_parts import read_with_cache
from pipeline.models.qwen_family import load_qwen
from pipeline.models.qwen_inputs import QwenInputs, arguments, encode
from pipeline.models.qwen_pixels import Patches

pytestmark = pytest.mark.moving

NEW = 8


@dataclass
class Reader:
    """Qwen2-VL's, with a count of what is read."""

    tokenizer: Any
    lengths: list[int]

    def language(self, model: Any) -> Any:
        return model

    def frames_end(self, prompt: QwenInputs) -> int:
        return int(prompt.mm_token_type_ids.nonzero()[-1]) + 1

    def read(self, model: Any, prompt: QwenInputs, length: int, cache: Any) -> int:
        self.lengths.append(length)
        read_with_cache(model.model, cache, **arguments(prompt, length))
        return length + int(model.model.rope_deltas)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_qwen2_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture
def reader(folder: Path) -> Reader:
    return Reader(load_tokenizer(folder), [])


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_qwen(Checkpoint(str(folder), None, "float32", "sdpa", "cpu"))


def pictures(count: int, seed: int) -> Patches:
    values = torch.randn(count * 16, 1176, generator=torch.Generator().manual_seed(seed))
    return Patches(values, torch.tensor([[1, 4, 4]] * count))


def asked(reader: Reader, shown: Patches, words: str, before: str = "") -> QwenInputs:
    content: Content = [text(before), *[IMAGE] * len(shown.grids), text(words)]
    return encode(reader.tokenizer, render_chat(reader.tokenizer, content), images=shown)


def by_stock(reader: Reader, model: Any, prompt: QwenInputs) -> tuple[int, ...]:
    ends = [int(reader.tokenizer.eos_token_id), int(reader.tokenizer.convert_tokens_to_ids("<|endoftext|>"))]
    kept, model.generation_config = model.generation_config, GenerationConfig(eos_token_id=ends, pad_token_id=0)
    given = arguments(prompt, prompt.tokens)
    mask = torch.ones_like(given["input_ids"])
    written = model.generate(**given, attention_mask=mask, do_sample=False, max_new_tokens=NEW)
    model.generation_config = kept
    return tuple(token for token in written[0, prompt.tokens :].tolist() if token not in ends)


WORDS = ("Why?", "What colour is the square that appears after the circle?", "What", "Why is it so?")


def test_questions_about_the_same_frames_share_their_reading(reader: Reader, model: Any) -> None:
    shown = pictures(3, seed=0)
    prompts = [asked(reader, shown, words) for words in WORDS]
    together = write_answers(reader, model, prompts, NEW)
    assert len(reader.lengths) == 1
    assert prompts[0].input_ids[reader.lengths[0] - 1] == prompts[1].input_ids[reader.lengths[0] - 1]
    assert [one.tokens for one in together] == [by_stock(reader, model, prompt) for prompt in prompts]
    assert len({one.tokens for one in together}) > 1


def test_other_frames_or_other_words_before_them_are_read_apart(reader: Reader, model: Any) -> None:
    one, same_size, shorter = pictures(3, seed=1), pictures(3, seed=2), pictures(2, seed=1)
    prompts = [
        asked(reader, one, WORDS[0]),
        asked(reader, same_size, WORDS[0]),
        asked(reader, one, WORDS[1], before="Subtitle: hello."),
        asked(reader, shorter, WORDS[0]),
        asked(reader, one, WORDS[1]),
    ]
    together = write_answers(reader, model, prompts, NEW)
    assert len(reader.lengths) == 4
    assert [each.tokens for each in together] == [by_stock(reader, model, prompt) for prompt in prompts]


def test_the_same_question_twice_is_answered_twice(reader: Reader, model: Any) -> None:
    shown = pictures(2, seed=3)
    prompts = [asked(reader, shown, WORDS[0])] * 2
    first, second = write_answers(reader, model, prompts, NEW)
    assert first == second
    assert first.tokens == by_stock(reader, model, prompts[0])


def test_the_limit_and_the_models_own_end_are_told_apart(reader: Reader, model: Any) -> None:
    prompt = asked(reader, pictures(2, seed=4), WORDS[1])
    (cut,) = write_answers(reader, model, [prompt], 3)
    assert (len(cut.tokens), cut.ended) == (3, False)
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [cut.tokens[1]]
    try:
        (ended,) = write_answers(reader, model, [prompt], 3)
    finally:
        model.generation_config.eos_token_id = before
    until = cut.tokens[: cut.tokens.index(cut.tokens[1])]
    assert ended == Generated(reader.tokenizer.decode(until), until, ended=True)


def test_a_repetition_penalty_of_the_checkpoint_does_not_apply(reader: Reader, model: Any) -> None:
    assert model.generation_config.repetition_penalty == 1.05
    prompt = asked(reader, pictures(2, seed=5), WORDS[2])
    (found,) = write_answers(reader, model, [prompt], NEW)
    ids = replace(prompt).input_ids
    for token in found.tokens:
        grown = replace(
            prompt,
            input_ids=ids,
            mm_token_type_ids=torch.nn.functional.pad(
                prompt.mm_token_type_ids, (0, len(ids) - len(prompt.mm_token_type_ids))
            ),
        )
        logits = model(**arguments(grown, len(ids))).logits[0, -1]
        assert token == int(logits.argmax())
        ids = torch.cat([ids, torch.tensor([token])])
