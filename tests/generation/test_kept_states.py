"""A beginning is kept as the layers give it, and no layer is asked for more than its keys and values."""

from __future__ import annotations

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from pipeline.generation.cached_reading import read_with_cache
from pipeline.generation.kept_states import empty_cache
from pipeline.generation.shared_prefix import prefill


def small() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_keys_and_values_are_those_of_a_stock_cache() -> None:
    model, states = small(), torch.randn(1, 7, 16)
    stock = DynamicCache(config=model.config)
    with torch.inference_mode():
        read_with_cache(model.model, stock, inputs_embeds=states)
    ours = prefill(model, states, torch.arange(7)[None])
    assert ours.next_position == ours.length == 7
    for layer, key, value in zip(stock.layers, ours.states.keys, ours.states.values, strict=True):
        assert torch.equal(key, layer.keys[0])
        assert torch.equal(value, layer.values[0])


def test_the_last_layer_ends_with_its_keys() -> None:
    model = small()
    calls: list[int] = []
    for place, layer in enumerate(model.model.layers):
        layer.mlp.register_forward_hook(lambda *_, place=place: calls.append(place))
    prefill(model, torch.randn(1, 7, 16), torch.arange(7)[None])
    assert calls == [0, 1]


def test_what_is_given_is_not_copied_and_a_part_does_not_keep_the_whole() -> None:
    cache = empty_cache(small().config)
    assert cache is not None
    alone, together = torch.randn(1, 5, 2, 8).transpose(1, 2), torch.randn(1, 5, 6, 8).transpose(1, 2)
    keys, values = cache.layers[0].update(alone, together[:, 4:])
    assert keys.data_ptr() == alone.data_ptr()
    assert values.untyped_storage().nbytes() == values.nbytes
    assert torch.equal(values, together[:, 4:])
    longer, _ = cache.layers[0].update(alone, alone)
    assert torch.equal(longer, torch.cat([alone, alone], dim=2))
