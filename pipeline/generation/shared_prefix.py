"""The beginning that prompts share, read once for all of them.

GenS's prompt has the frames first and the question last. So the frames, which are nearly all of the prompt, are read
once for all questions about a window, and their keys and values stay where they are while the questions are answered.

For any transformers model with a text decoder of plain attention layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipeline.errors import CheckpointError
from pipeline.generation.cached_reading import read_with_cache
from pipeline.generation.prefix_attention import PrefixStates

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel


@dataclass(frozen=True)
class Prefix:
    """The beginning that prompts share, as the model has read it."""

    states: PrefixStates
    next_position: int
    """Position of the token that follows. With images this is less than the number of tokens: M-RoPE counts an image's
    longer side, not its tokens (Qwen2-VL, arXiv 2409.12191)."""

    @property
    def length(self) -> int:
        """Tokens."""
        return self.states.length

    def first(self, tokens: int) -> Prefix:
        """Without the last tokens, which are text: the same memory, seen in part."""
        return Prefix(self.states.first(tokens), self.next_position - (self.length - tokens))


@torch.inference_mode()
def prefill(model: PreTrainedModel, embeddings: torch.Tensor, positions: torch.Tensor) -> Prefix:
    """Read the shared beginning of prompts.

    Args:
        model: with a text decoder and output embeddings.
        embeddings: ``[1, tokens, hidden size]``, images already in place.
        positions: as the model's decoder takes them: ``[1, tokens]``, or ``[3, 1, tokens]`` for M-RoPE.

    Raises:
        CheckpointError: some layer keeps less than all of the past.
    """
    decoder = model.get_decoder()
    following = int(positions.max()) + 1  # before the device is busy: reading it back would wait for all of it

    def read(cache: Cache) -> int:
        read_with_cache(decoder, cache, inputs_embeds=embeddings, position_ids=positions.to(embeddings.device))
        return following

    return Prefix(*states_read(model, read))


def states_read(model: PreTrainedModel, read: Callable[[Cache], int]) -> tuple[PrefixStates, int]:
    """What is left of a beginning that ``read`` reads into an empty cache, and the position that it returns.

    Args:
        model: whose text decoder the cache is for.
        read: called once.

    Raises:
        CheckpointError: some layer keeps less than all of the past.
    """
    from pipeline.generation.kept_states import empty_cache

    cache = empty_cache(model.get_decoder().config)
    if cache is None:
        raise CheckpointError(
            f"{type(model).__name__} with sliding or linear attention layers cannot share a prefix among questions.",
            "Take a checkpoint whose config.json has use_sliding_window: false, by its checkpoint.source=...",
        )
    following = read(cache)
    layers: list[Any] = cache.layers
    return PrefixStates(tuple(layer.keys[0] for layer in layers), tuple(layer.values[0] for layer in layers)), following
