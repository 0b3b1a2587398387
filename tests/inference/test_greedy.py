from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from pipeline.errors import OutOfMemoryError
from pipeline.inference.greedy import Generated, end_tokens, generate_greedily, halving, mapped_out_of_memory, pad_token
from pipeline.models.chat import load_tokenizer, render_chat, text
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.qwen_family import load_qwen
from pipeline.models.qwen_inputs import collate, encode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_qwen2_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_qwen(Checkpoint(str(folder), None, "float32", "sdpa", "cpu"))


def asked(tokenizer: Any, words: str) -> Any:
    return encode(tokenizer, render_chat(tokenizer, [text(words)]))


def generated(model: Any, tokenizer: Any, words: Sequence[str], limit: int = 6) -> list[Generated]:
    batch = collate([asked(tokenizer, each) for each in words], pad_token(model, tokenizer))
    return generate_greedily(model, tokenizer, batch, limit)


def test_each_token_is_the_most_probable_one(model: Any, tokenizer: Any) -> None:
    (found,) = generated(model, tokenizer, ["What colour is the square?"])
    ids = asked(tokenizer, "What colour is the square?").input_ids
    for token in found.tokens:
        logits = model(input_ids=ids[None]).logits[0, -1]
        assert token == int(logits.argmax())
        ids = torch.cat([ids, torch.tensor([token])])
    assert found.text == tokenizer.decode(found.tokens)


def test_an_answer_does_not_depend_on_who_else_is_asked(model: Any, tokenizer: Any) -> None:
    words = ["Why?", "What colour is the square that appears after the circle?", "A or B?"]
    together = generated(model, tokenizer, words)
    assert together == [generated(model, tokenizer, [each])[0] for each in words]


def test_the_limit_and_the_models_own_end_are_told_apart(model: Any, tokenizer: Any) -> None:
    (cut,) = generated(model, tokenizer, ["Why?"], limit=3)
    assert len(cut.tokens) == 3
    assert not cut.ended
    second = cut.tokens[1]
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [second]
    try:
        (ended,) = generated(model, tokenizer, ["Why?"], limit=3)
    finally:
        model.generation_config.eos_token_id = before
    assert ended == Generated(tokenizer.decode(cut.tokens[:1]), cut.tokens[:1], ended=True)


def test_the_checkpoints_sampling_settings_are_put_aside_and_kept(
    model: Any, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    generated(model, tokenizer, ["Why?"])
    assert not [record for record in caplog.records if "temperature" in record.getMessage()]
    assert model.generation_config.repetition_penalty == 1.05


def test_the_end_of_turn_ends_an_answer_and_endoftext_pads(model: Any, tokenizer: Any) -> None:
    named = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert end_tokens(model, tokenizer) == frozenset(named)
    assert pad_token(model, tokenizer) == named[1]


def test_torchs_out_of_memory_becomes_our_own() -> None:
    with pytest.raises(OutOfMemoryError, match="does not fit the device's memory"), mapped_out_of_memory():
        torch.empty(2**52)


def test_pythons_out_of_memory_which_has_no_words_becomes_our_own() -> None:
    with pytest.raises(OutOfMemoryError, match="does not fit the device's memory"), mapped_out_of_memory():
        raise MemoryError


def test_other_errors_of_torch_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), mapped_out_of_memory():
        torch.zeros(3).view(2)


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    sizes: list[int] = []

    def run(items: Sequence[int]) -> list[str]:
        sizes.append(len(items))
        if sum(items) > 10:
            raise OutOfMemoryError("too much", "less")
        return [str(item) for item in items]

    found = halving(run, [4, 5, 3, 11, 2])
    assert [str(each) if isinstance(each, str) else type(each) for each in found] == [
        "4",
        "5",
        "3",
        OutOfMemoryError,
        "2",
    ]
    assert sizes[0] == 5
    assert halving(run, []) == []


@pytest.mark.gpu
def test_a_gpu_that_is_full_is_reported_and_usable_afterwards(folder: Path, tokenizer: Any) -> None:
    model = load_qwen(Checkpoint(str(folder), None, "bfloat16", "auto", "cuda:0"))
    with pytest.raises(OutOfMemoryError), mapped_out_of_memory():
        torch.empty(2**50, device="cuda")
    assert generated(model, tokenizer, ["Why?"])[0].tokens
