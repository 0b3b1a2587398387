"""Attention of many sequences, of which groups begin with the same tokens, whose keys and values exist once.

A stock cache has a batch dimension: for Q questions about one window it would hold the frames Q times, and read them Q
times for each token. Here the rows of all questions are the rows of one matrix that meets the shared keys in one
product; each question's own few tokens are attended to beside it, and one softmax spans both. It is the same sum in
another order, so in float32 it agrees with stock attention to rounding.

The idea is that of Hydragen (arXiv 2402.05099) without its log-sum-exp step: with few query rows the scores are small
enough to be held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

NAME = "shared_prefix"
"""Under which transformers knows this attention once :func:`register` has run."""

_SCORE_BYTES = 2**28  # scores held at a time, in float32; more rows than fit are taken in turns


@dataclass(frozen=True)
class PrefixStates:
    """What attention needs of the shared tokens: one tensor a layer, ``[key-value heads, tokens, head size]``."""

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]

    @property
    def length(self) -> int:
        """Shared tokens."""
        return self.keys[0].shape[1]


@dataclass(frozen=True)
class Prefixes:
    """What the rows of a batch begin with."""

    states: tuple[PrefixStates, ...]
    rows: tuple[int, ...]
    """How many rows of the batch begin with each: first all of the first, and so on; may be 0."""


def register() -> None:
    """Make the attention known to transformers. Again and again does no harm."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _forward)


def _forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    scaling: float,
    prefixes: Prefixes,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The signature that transformers' attention modules call; ``prefixes`` come through the model's ``forward``."""
    layer: int = module.layer_idx  # type: ignore[assignment]
    rows = zip(
        *(torch.split(tensor, list(prefixes.rows)) for tensor in (query, key, value, attention_mask)), strict=True
    )
    parts = [
        attend(q, states.keys[layer], states.values[layer], k, v, mask, scaling)
        for states, (q, k, v, mask) in zip(prefixes.states, rows, strict=True)
        if len(q)
    ]
    out = torch.cat(parts) if len(parts) > 1 else parts[0]
    return out.transpose(1, 2).contiguous(), None


def attend(
    query: torch.Tensor,
    shared_key: torch.Tensor,
    shared_value: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Softmax attention over the shared tokens and each row's own.

    Args:
        query: ``[batch, heads, new tokens, size]``.
        shared_key: ``[key-value heads, shared tokens, size]``; all of them are visible to every query.
        shared_value: likewise.
        key: the row's own, ``[batch, key-value heads, own tokens, size]``.
        value: likewise.
        mask: which of the own tokens a new token sees, ``[batch, 1, new tokens, own tokens]``, true for seen.
        scaling: factor on the scores.

    Returns:
        ``[batch, heads, new tokens, size]``.
    """
    _, heads, tokens, _ = query.shape
    bytes_a_row = 4 * heads * tokens * (shared_key.shape[1] + key.shape[2])
    rows = max(1, _SCORE_BYTES // bytes_a_row)
    if rows >= query.shape[0]:
        return _attend(query, shared_key, shared_value, key, value, mask, scaling)
    parts = zip(*(torch.split(tensor, rows) for tensor in (query, key, value, mask)), strict=True)
    return torch.cat([_attend(q, shared_key, shared_value, k, v, m, scaling) for q, k, v, m in parts])


def _attend(
    query: torch.Tensor,
    shared_key: torch.Tensor,
    shared_value: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    batch, heads, tokens, size = query.shape
    groups, shared, _ = shared_key.shape
    own = key.shape[2]
    width = heads // groups * tokens  # query rows that meet the same keys
    rows = query.reshape(batch, groups, width, size)

    by_group = rows.transpose(0, 1).reshape(groups, batch * width, size)
    over_shared = _products(by_group, shared_key.transpose(1, 2)).view(groups, batch, width, shared).transpose(0, 1)
    over_own = _products(
        rows.reshape(batch * groups, width, size), key.reshape(batch * groups, own, size).transpose(1, 2)
    ).view(batch, groups, heads // groups, tokens, own)
    over_own.masked_fill_(~mask.unsqueeze(2), -torch.inf)
    over_own = over_own.view(batch, groups, width, own)

    # One softmax over both parts. Every row sees the whole prefix, so the maximum is finite.
    highest = torch.maximum(over_shared.amax(-1, keepdim=True), over_own.amax(-1, keepdim=True))
    over_shared = over_shared.sub_(highest).mul_(scaling).exp_()
    over_own = over_own.sub_(highest).mul_(scaling).exp_()
    total = over_shared.sum(-1, keepdim=True) + over_own.sum(-1, keepdim=True)
    from_shared = _products(
        over_shared.transpose(0, 1).reshape(groups, batch * width, shared).to(shared_value.dtype), shared_value
    )
    from_own = _products(
        over_own.reshape(batch * groups, width, own).to(value.dtype), value.reshape(batch * groups, own, size)
    )
    summed = from_shared.view(groups, batch, width, size).transpose(0, 1) + from_own.view(batch, groups, width, size)
    return (summed / total).to(query.dtype).reshape(batch, heads, tokens, size)


def _products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Batched matrix product in float32, also of halves: a score rounded to 8 bits moves the softmax by a percent."""
    if left.dtype == torch.float32:
        return torch.bmm(left, right)
    if left.is_cuda:
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left.float(), right.float())
