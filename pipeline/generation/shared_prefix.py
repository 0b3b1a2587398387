"""Many continuations of one prompt: the shared beginning is computed once, the rest is decoded together.

GenS's prompt has the frames first and the question last. So the frames, which are nearly all of the prompt, are read
once for all questions about a window, their keys and values stay where they are, and a step of the decoder makes the
next token of every question that is not finished. The tokens are those of a greedy ``generate`` on each whole prompt.

For any transformers model with a text decoder of plain attention layers. Not thread-safe: while it decodes, the model's
attention is exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipeline.errors import CheckpointError
from pipeline.families.loading.moving_parts import read_with_cache
from pipeline.generation import prefix_attention
from pipeline.generation.prefix_attention import PrefixStates

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel


@dataclass(frozen=True)
class Prefix:
    """The beginning that prompts share, as the model has read it."""

    states: PrefixStates
    next_position: int
    """Of the token that follows. With images this is less than the number of tokens: M-RoPE counts an image's longer
    side, not its tokens (Qwen2-VL, arXiv 2409.12191)."""

    @property
    def length(self) -> int:
        """Tokens."""
        return self.states.length


@dataclass(frozen=True)
class Continuation:
    """What greedy decoding appended to one prompt."""

    tokens: tuple[int, ...]
    """Without the token that ended it."""
    ended: bool
    """It ended by itself; false if the token limit cut it."""


_COLUMNS_AT_ONCE = 512
"""The most tokens a row of long suffixes that are read in one call, since their scores against the prefix are held."""

IsComplete = Callable[[Sequence[int]], bool]
"""Whether tokens written so far are all that is wanted, though the model did not end."""


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

    def read(cache: Cache) -> int:
        read_with_cache(decoder, cache, inputs_embeds=embeddings, position_ids=positions)
        return int(positions.max()) + 1

    return Prefix(*states_read(model, read))


def states_read(model: PreTrainedModel, read: Callable[[Cache], int]) -> tuple[PrefixStates, int]:
    """What is left of a beginning that ``read`` reads into an empty cache, and the position that it returns.

    Args:
        model: whose text decoder the cache is for.
        read: called once.

    Raises:
        CheckpointError: some layer keeps less than all of the past.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=model.get_decoder().config)
    following = read(cache)
    layers: list[Any] = cache.layers
    if any(type(layer) is not DynamicLayer for layer in layers):
        raise CheckpointError(
            f"{type(model).__name__} with sliding or linear attention layers cannot share a prefix among questions.",
            "Take a checkpoint whose config.json has use_sliding_window: false, by its checkpoint.source=...",
        )
    return PrefixStates(tuple(layer.keys[0] for layer in layers), tuple(layer.values[0] for layer in layers)), following


@dataclass(frozen=True)
class Branches:
    """Prompts that share their beginning."""

    prefix: Prefix
    suffixes: Sequence[Sequence[int]]
    """Token ids of text after the prefix, one sequence a prompt; none is empty, and lengths may differ."""


@torch.inference_mode()
def continue_greedily(
    model: PreTrainedModel,
    branches: Sequence[Branches],
    *,
    end_tokens: frozenset[int],
    is_complete: IsComplete,
    max_new_tokens: int,
) -> list[Continuation]:
    """Append to each prefix its suffixes, and to each of these the most likely tokens.

    All suffixes of all prefixes are decoded together, and those that are finished leave the batch. Memory beyond the
    prefixes grows with the number of suffixes times the length of what is appended.

    Args:
        model: the one that read the prefixes.
        branches: at least one.
        end_tokens: each ends a continuation.
        is_complete: asked after every other token, with the tokens of one continuation.
        max_new_tokens: above 0.

    Returns:
        One continuation a suffix, in their order.
    """
    suffixes = [suffix for each in branches for suffix in each.suffixes]
    written: list[list[int]] = [[] for _ in suffixes]
    finished = [False] * len(suffixes)
    with _attention_over_prefix(model):
        batch = _Batch(model, branches)
        for still_allowed in range(max_new_tokens - 1, -1, -1):
            tokens = batch.most_likely()
            staying = []
            for row, (sequence, token) in enumerate(zip(batch.sequences, tokens, strict=True)):
                if token not in end_tokens:
                    written[sequence].append(token)
                finished[sequence] = token in end_tokens or is_complete(written[sequence])
                if not finished[sequence]:
                    staying.append(row)
            if not staying or not still_allowed:
                break
            batch.keep(staying)
            batch.append([tokens[row] for row in staying])
    return [Continuation(tuple(ids), done) for ids, done in zip(written, finished, strict=True)]


@torch.inference_mode()
def next_logits(model: PreTrainedModel, branches: Sequence[Branches]) -> torch.Tensor:
    """What decides the first token of each continuation, before a model's own scaling: ``[suffixes, vocabulary]``."""
    with _attention_over_prefix(model):
        return _Batch(model, branches).logits()


class _Batch:
    """The unfinished sequences: what each adds to its prefix, as keys and values, and the state of its last token."""

    def __init__(self, model: PreTrainedModel, branches: Sequence[Branches]) -> None:
        from transformers import DynamicCache

        suffixes = [suffix for each in branches for suffix in each.suffixes]
        self.sequences = list(range(len(suffixes)))
        self._decoder = model.get_decoder()
        self._embed = model.get_input_embeddings()
        self._head = model.get_output_embeddings()
        self._states = tuple(each.prefix.states for each in branches)
        self._prefix_of = [place for place, each in enumerate(branches) for _ in each.suffixes]
        self._cache = DynamicCache()
        self._device = self._embed.weight.device

        # Padding stands between prefix and suffix, so that all suffixes end, and go on, in the same column.
        width = max(len(suffix) for suffix in suffixes)
        padding = [width - len(suffix) for suffix in suffixes]
        padded = [[suffix[0]] * pad + list(suffix) for suffix, pad in zip(suffixes, padding, strict=True)]
        ids = torch.tensor(padded, device=self._device)
        self._seen = torch.arange(width, device=self._device) >= torch.tensor(padding, device=self._device)[:, None]
        causal = torch.ones(width, width, dtype=torch.bool, device=self._device).tril()
        mask = causal & self._seen[:, None, None, :]
        firsts = torch.tensor([branches[place].prefix.next_position for place in self._prefix_of], device=self._device)
        positions = firsts[:, None] + (self._seen.cumsum(1) - 1).clamp(min=0)
        self._next_positions = positions[:, -1:] + 1
        for start in range(0, width, _COLUMNS_AT_ONCE):
            end = min(start + _COLUMNS_AT_ONCE, width)
            self._last = self._read(ids[:, start:end], mask[:, :, start:end, :end], positions[:, start:end])

    def most_likely(self) -> list[int]:
        """The next token of each sequence."""
        tokens: list[int] = self.logits().argmax(-1).tolist()
        return tokens

    def logits(self) -> torch.Tensor:
        """Of the next token of each sequence."""
        logits: torch.Tensor = self._head(self._last)
        return logits.float()

    def keep(self, rows: Sequence[int]) -> None:
        """Let all other sequences go."""
        if len(rows) == len(self.sequences):
            return
        chosen = torch.tensor(rows, device=self._device)
        self.sequences = [self.sequences[row] for row in rows]
        self._prefix_of = [self._prefix_of[row] for row in rows]
        self._seen = self._seen[chosen]
        self._next_positions = self._next_positions[chosen]
        for layer in self._cache.layers:
            layer.batch_select_indices(chosen.to(layer.keys.device))

    def append(self, tokens: Sequence[int]) -> None:
        """Read one token a sequence."""
        self._seen = torch.nn.functional.pad(self._seen, (0, 1), value=True)
        ids = torch.tensor(tokens, device=self._device)[:, None]
        self._last = self._read(ids, self._seen[:, None, None, :], self._next_positions)
        self._next_positions = self._next_positions + 1

    def _read(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        rows = tuple(self._prefix_of.count(place) for place in range(len(self._states)))
        output = read_with_cache(
            self._decoder,
            self._cache,
            inputs_embeds=self._embed(ids),
            attention_mask=mask,
            position_ids=positions,
            prefixes=prefix_attention.Prefixes(self._states, rows),
        )
        last: torch.Tensor = output.last_hidden_state[:, -1]
        return last


@contextmanager
def _attention_over_prefix(model: PreTrainedModel) -> Iterator[None]:
    prefix_attention.register()
    config = model.get_decoder().config
    stock = config._attn_implementation
    config._attn_implementation = prefix_attention.NAME
    try:
        yield
    finally:
        config._attn_implementation = stock
