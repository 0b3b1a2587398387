"""Attention of many sequences, of which groups begin with the same tokens, whose keys and values exist once.

A stock cache has a batch dimension: for Q questions about one window it would hold the frames Q times, and read them Q
times for each token. Here the rows of all questions are the rows of one matrix that meets the shared keys at once; each
question's own few tokens are attended to beside it, and the two results are weighed by the sums of their softmax. It is
the same sum in another order, so in float32 it agrees with stock attention to rounding.

Source: Hydragen (arXiv 2402.05099).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch

NAME = "shared_prefix"
"""Under which transformers knows this attention once :func:`register` has run."""

_SCORE_BYTES = 2**28  # scores held at a time, in float32, where no flash attention can do without holding them

Attended: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Values weighed by a softmax, ``[..., size]``, and the logarithm of its sum, ``[...]`` float32."""


@dataclass(frozen=True)
class PrefixStates:
    """What attention needs of the shared tokens: one tensor a layer, ``[key-value heads, tokens, head size]``."""

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]

    @property
    def length(self) -> int:
        """Shared tokens."""
        return self.keys[0].shape[1]

    @property
    def bytes(self) -> int:
        """Memory of all layers."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def first(self, tokens: int) -> PrefixStates:
        """Views of the first tokens."""
        return PrefixStates(*(tuple(each[:, :tokens] for each in states) for states in (self.keys, self.values)))


@dataclass(frozen=True)
class Prefixes:
    """What the rows of a batch begin with."""

    states: tuple[PrefixStates, ...]
    rows: tuple[int, ...]
    """How many rows of the batch begin with each: first all of the first, and so on; may be 0."""

    def attend(
        self,
        query: torch.Tensor,
        layer: int,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """All rows of a prefix together."""
        batch, heads, tokens, size = query.shape
        groups = key.shape[1]
        width = heads // groups * tokens  # query rows that meet the same keys
        rows = query.reshape(batch, groups, width, size)
        parts = [
            over_prefix(part, states.keys[layer], states.values[layer], scaling)
            for states, part in zip(self.states, torch.split(rows, list(self.rows)), strict=True)
            if len(part)
        ]
        shared, shared_sum = (torch.cat(made) if len(made) > 1 else made[0] for made in zip(*parts, strict=True))
        own, own_sum = over_own(rows, key, value, mask, scaling)
        return merged((shared, shared_sum), (own, own_sum)).to(query.dtype).reshape(batch, heads, tokens, size)


class AttendsRows(Protocol):
    """What rows of a call begin with, and how they attend to it and to their own tokens."""

    def attend(
        self,
        query: torch.Tensor,
        layer: int,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """Softmax attention over the tokens of each row's prefix, which it sees all of, and over its own.

        Args:
            query: ``[batch, heads, new tokens, size]``.
            layer: which of the prefixes' layers.
            key: the row's own, ``[batch, key-value heads, own tokens, size]``.
            value: likewise.
            mask: which of the own tokens a new token sees, ``[batch, 1, new tokens, own tokens]``, true for seen.
            scaling: factor on the scores.

        Returns:
            ``[batch, heads, new tokens, size]``.
        """
        ...


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
    prefixes: AttendsRows,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The signature that transformers' attention modules call; ``prefixes`` come through the model's ``forward``."""
    layer: int = module.layer_idx  # type: ignore[assignment]
    out = prefixes.attend(query, layer, key, value, attention_mask, scaling)
    return out.transpose(1, 2).contiguous(), None


def merged(one: Attended, other: Attended) -> torch.Tensor:
    """Attention over the tokens of both, in float32; zeros for a row that sees none of them."""
    highest = torch.maximum(one[1], other[1]).clamp_(min=torch.finfo(torch.float32).min)
    weights = [(logarithm - highest).exp_().unsqueeze(-1) for _, logarithm in (one, other)]
    total = (weights[0] + weights[1]).clamp_(min=torch.finfo(torch.float32).tiny)
    return (one[0] * weights[0] + other[0] * weights[1]) / total


def over_prefix(rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> Attended:
    """``rows`` is ``[batch, key-value heads, rows, size]``; all of them see all of the prefix."""
    batch, groups, width, size = rows.shape
    by_group = rows.transpose(0, 1).reshape(groups, batch * width, size)
    if rows.is_cuda and rows.dtype != torch.float32 and size % 8 == 0 and size <= 256:
        out, total, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
            by_group[None], key[None], value[None], scale=scaling
        )
        out, total = out[0], total[0]
    else:
        at_once = max(1, _SCORE_BYTES // (4 * groups * key.shape[1]))
        made = [_softmax(part, key, value, scaling) for part in torch.split(by_group, at_once, dim=1)]
        out, total = (torch.cat(each, dim=1) for each in zip(*made, strict=True))
    return out.view(groups, batch, width, size).transpose(0, 1), total.view(groups, batch, width).transpose(0, 1)


def _softmax(rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> Attended:
    return _weighed(_products(rows, key.transpose(1, 2)).mul_(scaling), value)


def over_own(
    rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float
) -> Attended:
    """``rows`` is the same, tokens of a head last; the others are as for :meth:`AttendsRows.attend`."""
    batch, groups, width, size = rows.shape
    tokens, own = mask.shape[2:]
    flat_rows, flat_key, flat_value = (tensor.reshape(batch * groups, -1, size) for tensor in (rows, key, value))
    scores = _products(flat_rows, flat_key.transpose(1, 2)).mul_(scaling)
    scores.view(batch, groups, width // tokens, tokens, own).masked_fill_(~mask.unsqueeze(2), -torch.inf)
    out, total = _weighed(scores, flat_value)
    return out.view(batch, groups, width, size), total.view(batch, groups, width)


def _weighed(scores: torch.Tensor, value: torch.Tensor) -> Attended:
    """``scores`` is float32 and used up. A row that sees nothing, as padding does, has no share: minus infinity."""
    # The largest weight is 1 before the values are weighed, and so loses nothing when it is rounded to theirs.
    highest = scores.amax(-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).min)
    weights = scores.sub_(highest).exp_()
    total = weights.sum(-1, keepdim=True)
    out = _products(weights.to(value.dtype), value) / total.clamp(min=torch.finfo(torch.float32).tiny)
    return out, (total.log() + highest).squeeze(-1)


def _products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Batched matrix product in float32, also of halves: a score rounded to 8 bits moves the softmax by a percent."""
    if left.dtype == torch.float32:
        return torch.bmm(left, right)
    if left.is_cuda:
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left.float(), right.float())
