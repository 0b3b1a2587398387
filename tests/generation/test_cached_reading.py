"""A cache goes to the model under the name that the installed transformers has, and it is used."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaModel

from pipeline.errors import IncompatibleLibraryError
from pipeline.generation.cached_reading import read_with_cache

pytestmark = pytest.mark.moving
IDS = torch.tensor([[5, 3, 8, 1, 9, 2]])


class KeywordIsGone(LlamaModel):
    """As a version of transformers that takes the cache under another name and ignores what it does not know."""

    def forward(self, input_ids: torch.Tensor, memory: Any = None, **ignored: Any) -> Any:
        return super().forward(input_ids=input_ids)


class CacheIsIgnored(LlamaModel):
    def forward(self, input_ids: torch.Tensor, cache: Any = None, **ignored: Any) -> Any:
        return super().forward(input_ids=input_ids)


def tiny_model(model_class: type[LlamaModel]) -> LlamaModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return model_class(LlamaConfig(vocab_size=10, **sizes)).eval()


@torch.inference_mode()
def test_a_prompt_read_in_two_parts_gives_the_states_of_the_whole_without_a_warning() -> None:
    model, cache = tiny_model(LlamaModel), DynamicCache()
    whole = model(input_ids=IDS).last_hidden_state
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = read_with_cache(model, cache, input_ids=IDS[:, :4]).last_hidden_state
        second = read_with_cache(model, cache, inputs_embeds=model.embed_tokens(IDS[:, 4:])).last_hidden_state
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)


@pytest.mark.parametrize(
    ("model_class", "told"),
    [
        (KeywordIsGone, "KeywordIsGone.forward has no parameter named cache or past_key_values"),
        (CacheIsIgnored, "CacheIsIgnored read 6 tokens and kept 0 of them in its cache"),
    ],
)
def test_a_cache_that_would_be_ignored_is_an_error(model_class: type[LlamaModel], told: str) -> None:
    with pytest.raises(IncompatibleLibraryError, match=told) as caught:
        read_with_cache(tiny_model(model_class), DynamicCache(), input_ids=IDS)
    assert "pip install 'transformers==" in caught.value.remedy
