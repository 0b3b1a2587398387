from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from pipeline.errors import OutOfMemoryError
from pipeline.families.chat import load_tokenizer
from pipeline.families.loading.checkpoint import Checkpoint, load
from pipeline.generation.memory import mapped_out_of_memory
from pipeline.generation.texts import end_tokens

pytestmark = pytest.mark.moving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_qwen2_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    from transformers import Qwen2VLForConditionalGeneration

    return load(Qwen2VLForConditionalGeneration, Checkpoint(str(folder), None, "float32", "sdpa", "cpu"))


def test_the_end_of_turn_and_of_text_end_an_answer(model: Any, tokenizer: Any) -> None:
    named = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert end_tokens(model, tokenizer) == frozenset(named)


def test_torchs_out_of_memory_becomes_our_own() -> None:
    with pytest.raises(OutOfMemoryError, match="does not fit the device's memory"), mapped_out_of_memory():
        torch.empty(2**52)


def test_pythons_out_of_memory_which_has_no_words_becomes_our_own() -> None:
    with pytest.raises(OutOfMemoryError, match="does not fit the device's memory"), mapped_out_of_memory():
        raise MemoryError


def test_other_errors_of_torch_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), mapped_out_of_memory():
        torch.zeros(3).view(2)


@pytest.mark.gpu
def test_a_gpu_that_is_full_is_reported_and_usable_afterwards() -> None:
    with pytest.raises(OutOfMemoryError), mapped_out_of_memory():
        torch.empty(2**50, device="cuda")
    assert torch.ones(2, device="cuda").sum() == 2
