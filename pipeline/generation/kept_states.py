"""The cache of a prompt's beginning: each layer keeps the keys and values that it is given, and does not copy them.

A stock layer joins what it is given to what it has, which is a copy of all keys and values when it has nothing. And of
a beginning nothing but its keys and values is wanted: the call ends when the last layer has its own, before that
layer's attention and experts.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from pipeline.generation.cached_reading import AllKept


class _KeptLayer(DynamicLayer):  # type: ignore[misc]
    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The first keys and values as they are, with their size innermost; later ones are joined to them."""
        if self.is_initialized:
            joined: tuple[torch.Tensor, torch.Tensor] = super().update(key_states, value_states, *args, **kwargs)
            return joined
        self.lazy_initialization(key_states, value_states)
        self.keys, self.values = _owned(key_states), _owned(value_states)
        return self.keys, self.values


class _LastLayer(_KeptLayer):
    def __init__(self, before: list[_KeptLayer]) -> None:
        super().__init__()
        self._before = before

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ends the call, unless a layer is missing."""
        found = super().update(key_states, value_states, *args, **kwargs)
        if all(layer.is_initialized for layer in self._before):
            raise AllKept
        return found


def empty_cache(config: Any) -> DynamicCache | None:
    """For one call of a decoder on the beginning of a prompt; None if some layer would keep less than all of it.

    Args:
        config: the decoder's.
    """
    cache = DynamicCache(config=config)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    before = [_KeptLayer() for _ in cache.layers[:-1]]
    cache.layers = [*before, _LastLayer(before)]
    return cache


def _owned(states: torch.Tensor) -> torch.Tensor:
    """Copied where it is part of something larger, which would be kept with it."""
    alone = states.untyped_storage().nbytes() == states.nbytes
    return states if alone and states.stride(-1) == 1 else states.contiguous().clone()
