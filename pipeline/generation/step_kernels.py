"""The Triton kernels of :func:`pipeline.generation.step_attention.attend`. Importing this module needs Triton.

The keys of a prefix are split into parts, so that all multiprocessors have work also where there is one row
(Flash-Decoding, https://pytorch.org/blog/flash-decoding), and the query heads of a group and the rows of a prefix are
packed into the rows of one matrix, so that the keys are read once for all of them (Hydragen, arXiv 2402.05099).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from pipeline.generation.step_attention import PrefixTable

_LOG2_E = 1.4426950408889634
_PARTS, _PARTS_WARPS = 16, 4  # results weighed at a time, and by how many warps


def launch(
    query: torch.Tensor,
    table: PrefixTable,
    layer: int,
    own_keys: torch.Tensor,
    own_values: torch.Tensor,
    own_lengths: torch.Tensor,
    scaling: float,
    out: torch.Tensor,
) -> None:
    """Write the attention of :func:`pipeline.generation.step_attention.attend` to ``out``."""
    shape, blocks = table.shape, table.blocks
    with torch.cuda.device(query.device):  # Triton launches on the current one
        _attend_in_parts[(table.items + table.rows, shape.key_value_heads)](
            query,
            *query.stride()[:2],
            table.addresses[layer],
            table.strides,
            table.work,
            table.order,
            own_keys,
            *own_keys.stride()[:3],
            own_values,
            *own_values.stride()[:3],
            own_lengths,
            scaling * _LOG2_E,
            table.items,
            table.parts,
            table.part_sums,
            table.own,
            table.own_sums,
            GROUP=shape.group,
            SIZE=shape.size,
            PADDED=shape.padded_size,
            QUERIES=blocks.queries,
            TOKENS=blocks.tokens,
            STAGES=blocks.stages,
            num_warps=blocks.warps,
        )
        _merge_parts[(table.rows, shape.heads)](
            table.routes,
            table.parts,
            table.part_sums,
            table.own,
            table.own_sums,
            out,
            HEADS=shape.heads,
            GROUP=shape.group,
            SIZE=shape.size,
            PADDED=shape.padded_size,
            QUERIES=blocks.queries,
            PARTS=_PARTS,
            num_warps=_PARTS_WARPS,
        )


@triton.jit(do_not_specialize=["items"])
def _attend_in_parts(
    query,
    query_row,
    query_head,
    addresses,
    strides,
    work,
    order,
    own_keys,
    own_keys_row,
    own_keys_head,
    own_keys_token,
    own_values,
    own_values_row,
    own_values_head,
    own_values_token,
    own_lengths,
    scaling,
    items,
    parts,
    part_sums,
    own,
    own_sums,
    GROUP: tl.constexpr,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    QUERIES: tl.constexpr,
    TOKENS: tl.constexpr,
    STAGES: tl.constexpr,
):
    item = tl.program_id(0)
    group = tl.program_id(1)
    groups = tl.num_programs(1)
    if item < items:  # a part of a prefix
        work += item * 5
        start = tl.load(work + 1)
        length = tl.load(work + 2) - start
        slot = tl.load(work)
        order += tl.load(work + 3)
        rows = tl.load(work + 4)
        key_token = tl.multiple_of(tl.load(strides + slot * 4 + 1), 8)
        value_token = tl.multiple_of(tl.load(strides + slot * 4 + 3), 8)
        key_start = group * tl.multiple_of(tl.load(strides + slot * 4), 8) + start * key_token
        value_start = group * tl.multiple_of(tl.load(strides + slot * 4 + 2), 8) + start * value_token
        pointer = tl.pointer_type(query.dtype.element_ty)
        keys = tl.multiple_of(tl.load(addresses + slot * 2), 16).to(pointer) + key_start
        values = tl.multiple_of(tl.load(addresses + slot * 2 + 1), 16).to(pointer) + value_start
        first = (item * groups + group).to(tl.int64) * QUERIES
        out = parts + first * SIZE
        sums = part_sums + first
    else:  # a row's own tokens
        row = (item - items).to(tl.int64)
        length = tl.load(own_lengths + row)
        order += tl.num_programs(0) - items + row
        rows = 1
        key_token = own_keys_token.to(tl.int64)
        value_token = own_values_token.to(tl.int64)
        keys = own_keys + row * own_keys_row + group * own_keys_head
        values = own_values + row * own_values_row + group * own_values_head
        first = row * groups * GROUP + group * GROUP
        out = own + first * SIZE
        sums = own_sums + first
    _attend(
        query + group * GROUP * query_head,
        query_row,
        query_head,
        order,
        rows,
        keys,
        key_token.to(tl.int32),
        values,
        value_token.to(tl.int32),
        length,
        scaling,
        out,
        sums,
        GROUP=GROUP,
        SIZE=SIZE,
        PADDED=PADDED,
        QUERIES=QUERIES,
        TOKENS=TOKENS,
        STAGES=STAGES,
    )


@triton.jit
def _attend(
    query,
    query_row,
    query_head,
    order,
    rows,
    keys,
    key_token,
    values,
    value_token,
    length,
    scaling,
    out,
    sums,
    GROUP: tl.constexpr,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    QUERIES: tl.constexpr,
    TOKENS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Attention of a block of rows, all heads of a group, over tokens that all of them see."""
    queries = tl.arange(0, QUERIES)
    tokens = tl.arange(0, TOKENS)
    places = tl.arange(0, PADDED)
    used = queries < rows * GROUP
    inside = places < SIZE
    row = tl.load(order + queries // GROUP, mask=used, other=0)
    at = row * query_row + (queries % GROUP) * query_head
    rows_in = used[:, None] & inside[None, :]
    left = tl.load(query + at[:, None] + places[None, :], mask=rows_in, other=0.0)
    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, PADDED], tl.float32)
    keys += tokens[:, None] * key_token + places[None, :]
    values += tokens[:, None] * value_token + places[None, :]
    for start in tl.range(0, length, TOKENS, num_stages=STAGES):
        seen = tokens < length - start
        block = seen[:, None] & inside[None, :]
        right = tl.load(tl.multiple_of(keys, [1, 16]), mask=block, other=0.0)
        scores = tl.where(seen[None, :], tl.dot(left, tl.trans(right)), float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1) * scaling)
        weights = tl.exp2(scores * scaling - higher[:, None])
        kept = tl.exp2(highest - higher)
        total = total * kept + tl.sum(weights, 1)
        right = tl.load(tl.multiple_of(values, [1, 16]), mask=block, other=0.0)
        mixed = tl.dot(weights.to(right.dtype), right, mixed * kept[:, None])
        highest = higher
        keys += TOKENS * key_token
        values += TOKENS * value_token
    # Of no tokens the sum is 0, its logarithm minus infinity and the result 0.
    mixed = mixed / tl.maximum(total, 1e-30)[:, None]
    tl.store(out + queries[:, None] * SIZE + places[None, :], mixed, mask=rows_in)
    tl.store(sums + queries, highest + tl.log2(total), mask=used)


@triton.jit
def _merge_parts(
    routes,
    parts,
    part_sums,
    own,
    own_sums,
    out,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    QUERIES: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Weigh the results of a head of a row by the sums of their softmax."""
    row = tl.program_id(0)
    head = tl.program_id(1)
    item = tl.load(routes + row * 4)
    step = tl.load(routes + row * 4 + 1)
    count = tl.load(routes + row * 4 + 2)
    query = tl.load(routes + row * 4 + 3) * GROUP + head % GROUP
    number = tl.arange(0, PARTS)
    places = tl.arange(0, PADDED)
    inside = places < SIZE
    highest = tl.load(own_sums + row * HEADS + head)
    total = tl.where(highest == float("-inf"), 0.0, 1.0)
    mixed = tl.load(own + (row * HEADS + head) * SIZE + places, mask=inside, other=0.0)
    for start in range(0, count, PARTS):
        is_part = start + number < count
        part = (item + (start + number) * step).to(tl.int64) * (HEADS // GROUP) + head // GROUP
        part = part * QUERIES + query
        sums = tl.load(part_sums + part, mask=is_part, other=float("-inf"))
        values = tl.load(
            parts + part[:, None] * SIZE + places[None, :], mask=is_part[:, None] & inside[None, :], other=0.0
        )
        higher = tl.maximum(highest, tl.max(sums, 0))
        weights = tl.exp2(sums - higher)
        kept = tl.exp2(highest - higher)
        total = total * kept + tl.sum(weights, 0)
        mixed = mixed * kept + tl.sum(values * weights[:, None], 0)
        highest = higher
    mixed = mixed / tl.maximum(total, 1e-30)
    tl.store(out + (row * HEADS + head) * SIZE + places, mixed.to(out.dtype.element_ty), mask=inside)
