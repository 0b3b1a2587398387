"""Attention of one decode step, for rows that begin with different prefixes, in calls that a CUDA graph can hold.

A captured graph repeats its kernels with the same grids and the same addresses. So what changes between steps (which
prefixes there are, where they are in memory, which row begins with which, how the work is split) is in tensors of
constant size, a :class:`PrefixTable`, which the kernels read and which is updated in place.

:func:`attend` runs Triton kernels; :func:`attend_reference` computes the same in plain PyTorch, on any device.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from pipeline.generation.prefix_attention import PrefixStates, merged, over_own, over_prefix


@dataclass(frozen=True)
class AttentionShape:
    """What the attention of a model looks like."""

    layers: int
    heads: int
    key_value_heads: int
    size: int
    """Channels of one head."""

    @property
    def group(self) -> int:
        """Query heads that share a key-value head."""
        return self.heads // self.key_value_heads

    @property
    def padded_size(self) -> int:
        """Channels of one head in a block, whose sides are powers of two, and 16 or more for a tensor core."""
        return max(16, 1 << (self.size - 1).bit_length())


@dataclass(frozen=True)
class Blocks:
    """How the kernels cut their work."""

    queries: int
    """Query rows (a row's heads of one group count each) that meet the keys at once."""
    tokens: int
    """Keys read at a time."""
    warps: int
    stages: int
    """Blocks of keys on their way at the same time."""
    programs: int
    """For each multiprocessor, over which the prefixes are split."""
    least_tokens: int
    """The fewest tokens of a prefix in a piece of work, though there could be more pieces."""


@dataclass(frozen=True)
class Held:
    """A prefix that some row begins with."""

    slot: int
    states: PrefixStates
    rows: tuple[int, ...]


_BLOCKS = Blocks(queries=64, tokens=64, warps=4, stages=3, programs=2, least_tokens=128)
"""The best block shape of 30 on an H100, for heads of 128 in groups of 1 and 8, 1 to 56 prefixes and 1 to 364 rows. Two
such programs reside on a multiprocessor, and pieces of 64 tokens were slower than those of 128."""


def fitting_blocks(shape: AttentionShape, shared_memory: int) -> Blocks:
    """The blocks for a multiprocessor that lends a kernel so many bytes: a smaller card holds fewer keys at a time."""
    for tokens, stages in ((_BLOCKS.tokens, _BLOCKS.stages), (_BLOCKS.tokens, 2)):
        if 2 * shape.padded_size * (_BLOCKS.queries + 2 * tokens * stages) <= shared_memory:
            return replace(_BLOCKS, tokens=tokens, stages=stages)
    return replace(_BLOCKS, tokens=_BLOCKS.tokens // 2, stages=2)


def _lent_memory(card: Any) -> int:
    """Not among PyTorch's types, though the attribute is there."""
    return int(card.shared_memory_per_block_optin)


_ITEM = 5  # numbers of a piece of work: slot, first token, end, first place in the order of rows, rows
_ROUTE = 4  # numbers of a row: its prefix's first item, the distance to the next, how many, its place in their block


@lru_cache
def kernel_obstacle(shape: AttentionShape, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why :func:`attend` cannot run, or ``None`` if it can.

    Triton needs the host's C compiler, and a kernel may not fit on a card, so the answer is found by running it.

    Raises:
        torch.OutOfMemoryError: there is no memory to run it now.
    """
    if device.type != "cuda":
        return f"the model is on {device.type}, and the kernels need CUDA"
    if dtype not in {torch.bfloat16, torch.float16}:
        return f"the kernels compute in bfloat16 or float16, and the model is in {str(dtype).removeprefix('torch.')}"
    if shape.size % 8 or shape.size > 256 or shape.group > _BLOCKS.queries:
        return f"the kernels have no shape for {shape.group} query heads of {shape.size} a key-value head"
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < (8, 0):
        return f"the kernels need an NVIDIA card of compute capability 8.0, not {torch.cuda.get_device_name(device)}"
    try:
        importlib.import_module("pipeline.generation.step_kernels")
        difference = _difference(replace(shape, layers=1), dtype, device)
    except torch.OutOfMemoryError:  # says nothing about the kernels, and is not to be remembered
        raise
    except Exception as error:  # whatever Triton, the compiler or the driver raises
        first: BaseException = error
        while first.__cause__:  # Triton quotes the kernel's lines around the reason
            first = first.__cause__
        reason = (str(first).strip().splitlines() or [""])[0]
        return f"Triton does not run here ({type(first).__name__}: {reason})"
    return None if difference < 0.02 else f"Triton's results differ by {difference:.2g}"


def _difference(shape: AttentionShape, dtype: torch.dtype, device: torch.device) -> float:
    """Between the kernels and the reference, on numbers of a normal distribution, whose results are below 1."""
    generator = torch.Generator(device).manual_seed(0)

    def noise(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator, device=device).to(dtype)

    table = PrefixTable(shape, slots=1, rows=2, device=device)
    prefix = noise(2, shape.key_value_heads, 300, shape.size)
    table.put(0, PrefixStates((prefix[0],), (prefix[1],)))
    table.assign([0])
    own = (noise(2, shape.key_value_heads, 40, shape.size), noise(2, shape.key_value_heads, 40, shape.size))
    lengths = torch.tensor([20, 40], dtype=torch.int32, device=device)
    query = noise(2, shape.heads, shape.size)
    made, expected = (
        attention(query, table, 0, *own, lengths, shape.size**-0.5) for attention in (attend, attend_reference)
    )
    return float((made - expected).abs().max())


class PrefixTable:
    """The prefixes that rows begin with, for the kernels.

    Prefixes are put into slots, rows are assigned to slots. What the device sees changes in :meth:`assign` alone, in
    order with the work of the current stream.
    """

    def __init__(
        self, shape: AttentionShape, *, slots: int, rows: int, device: torch.device, blocks: Blocks | None = None
    ) -> None:
        """Allocate tensors and workspace.

        Args:
            shape: of the model.
            slots: the most prefixes held at a time.
            rows: of each step.
            device: where the kernels run.
            blocks: how they cut their work; what fits the device if ``None``.
        """
        card = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
        blocks = blocks or (fitting_blocks(shape, _lent_memory(card)) if card else _BLOCKS)
        self.shape, self.slots, self.rows, self.device, self.blocks = shape, slots, rows, device, blocks
        self._states: list[PrefixStates | None] = [None] * slots
        self.held: tuple[Held, ...] = ()
        """What rows begin with since the last :meth:`assign`."""

        # A block holds whole rows, so a prefix of n rows needs less than 1 + n / block blocks.
        self._rows_a_block = blocks.queries // shape.group
        multiprocessors = card.multi_processor_count if card else 4
        self._aim = max(1, blocks.programs * multiprocessors // shape.key_value_heads)
        self.items = max(self._aim, min(slots, rows) + rows // self._rows_a_block)
        """The most pieces of work a step: a block of a prefix's rows with a part of its tokens."""

        def zeros(*sizes: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(sizes, dtype=dtype, device=device)

        self.addresses = zeros(shape.layers, slots, 2, dtype=torch.int64)
        """Addresses of keys and of values, in bytes."""
        self.strides = zeros(slots, 4, dtype=torch.int64)
        """In elements: from head to head and from token to token of keys, the same of values."""
        self._addresses, self._strides = (
            torch.zeros_like(shown, device="cpu") for shown in (self.addresses, self.strides)
        )
        self._plan = zeros(self.items * _ITEM + rows * (2 + _ROUTE), dtype=torch.int32)
        ends = (self.items * _ITEM, self.items * _ITEM + 2 * rows)
        self.work = self._plan[: ends[0]]
        self.order = self._plan[ends[0] : ends[1]]
        """Rows, those of a slot together; then each row by itself, for its own tokens."""
        self.routes = self._plan[ends[1] :]

        # Of each piece, and of each row's own tokens: values weighed by a softmax, and the logarithm of its sum.
        partial = (self.items, shape.key_value_heads, blocks.queries)
        self.parts = zeros(*partial, shape.size, dtype=torch.float32)
        self.part_sums = zeros(*partial, dtype=torch.float32)
        self.own = zeros(rows, shape.heads, shape.size, dtype=torch.float32)
        self.own_sums = zeros(rows, shape.heads, dtype=torch.float32)

    def put(self, slot: int, states: PrefixStates) -> None:
        """Let a slot hold a prefix, whose tensors stay alive with it.

        Raises:
            ValueError: the kernels could not read it in blocks of 16 bytes.
        """
        for tensor in (*states.keys, *states.values):
            head, token, element = tensor.stride()
            if element != 1 or (self.shape.size % 8 == 0 and (head % 8 or token % 8 or tensor.data_ptr() % 16)):
                raise ValueError(f"keys and values of strides {tensor.stride()} at {tensor.data_ptr():#x}")
        self._states[slot] = states
        pairs = zip(states.keys, states.values, strict=True)
        self._addresses[:, slot] = torch.tensor([[key.data_ptr(), value.data_ptr()] for key, value in pairs])
        self._strides[slot] = torch.tensor([*states.keys[0].stride()[:2], *states.values[0].stride()[:2]])

    def clear(self, slot: int) -> None:
        """Let a slot be empty."""
        self._states[slot] = None

    def assign(self, slots: Sequence[int | None]) -> None:
        """Say with which prefix each row begins, and show the device all that has changed.

        Args:
            slots: of the first rows. A row of ``None`` or of an empty slot, and those that follow, see their own
                tokens only.
        """
        rows_of_slot: dict[int, list[int]] = {}
        for row, slot in enumerate(slots):
            if slot is not None:
                rows_of_slot.setdefault(slot, []).append(row)
        self.held = tuple(
            Held(slot, states, tuple(rows)) for slot, rows in rows_of_slot.items() if (states := self._states[slot])
        )
        plan = torch.tensor(self._planned(), dtype=torch.int32)
        for shown, made in ((self.addresses, self._addresses), (self.strides, self._strides), (self._plan, plan)):
            # From a copy in pinned memory, so that nobody waits; PyTorch keeps that memory until it has been read.
            shown.copy_(made.pin_memory() if self.device.type == "cuda" else made, non_blocking=True)

    def _planned(self) -> list[int]:
        """The pieces of work, the order of rows, and where each row finds its parts."""
        tokens = self._tokens_a_piece()
        work: list[int] = []
        order: list[int] = []
        routes = [0] * (self.rows * _ROUTE)
        for held in self.held:
            rows, length, blocks = held.rows, held.states.length, self._row_blocks(held)
            parts = math.ceil(length / tokens)
            first = len(work) // _ITEM
            # Pieces that read the same keys are neighbours, so that all but one find them in the cache.
            for start in range(0, length, tokens):
                for block in range(blocks):
                    place = block * self._rows_a_block
                    count = min(self._rows_a_block, len(rows) - place)
                    work += [held.slot, start, min(start + tokens, length), len(order) + place, count]
            for number, row in enumerate(rows):
                block, place = divmod(number, self._rows_a_block)
                routes[row * _ROUTE : (row + 1) * _ROUTE] = [first + block, blocks, parts, place]
            order += rows
        work += [0] * (self.items * _ITEM - len(work))
        order += [0] * (self.rows - len(order)) + list(range(self.rows))
        return work + order + routes

    def _row_blocks(self, held: Held) -> int:
        return math.ceil(len(held.rows) / self._rows_a_block)

    def _tokens_a_piece(self) -> int:
        """The fewest, in whole blocks, that cut all prefixes into no more pieces than aimed at."""
        least = self.blocks.least_tokens // self.blocks.tokens
        most = max((math.ceil(held.states.length / self.blocks.tokens) for held in self.held), default=1)
        while least < most:
            middle = (least + most) // 2
            tokens = middle * self.blocks.tokens
            pieces = sum(math.ceil(held.states.length / tokens) * self._row_blocks(held) for held in self.held)
            least, most = (least, middle) if pieces <= self._aim else (middle + 1, most)
        return least * self.blocks.tokens


def attend(
    query: torch.Tensor,
    table: PrefixTable,
    layer: int,
    own_keys: torch.Tensor,
    own_values: torch.Tensor,
    own_lengths: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Softmax attention of each row's newest token over the row's prefix and its own tokens.

    Two kernels: one attends to parts of prefixes, which are read once for all rows that fit in a block, and to own
    tokens; one weighs these results by the sums of their softmax. Call it once before it is captured, since it is
    compiled then.

    Args:
        query: ``[rows, heads, size]``, halves, with stride 1 in the last dimension.
        table: which rows begin with what.
        layer: which of the model's.
        own_keys: ``[rows, key-value heads, capacity, size]``, with stride 1 in the last dimension; finite numbers also
            where they are not seen.
        own_values: likewise.
        own_lengths: tokens of them that each row sees, ``[rows]`` int32; 0 for a row that is not in use.
        scaling: factor on the scores.

    Returns:
        ``[rows, heads, size]``; zeros for a row that sees nothing.
    """
    from pipeline.generation import step_kernels

    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    step_kernels.launch(query, table, layer, own_keys, own_values, own_lengths, scaling, out)
    return out


def attend_reference(
    query: torch.Tensor,
    table: PrefixTable,
    layer: int,
    own_keys: torch.Tensor,
    own_values: torch.Tensor,
    own_lengths: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """What :func:`attend` computes, in plain PyTorch: on any device, in any dtype, and not to be captured."""
    rows, heads, size = query.shape
    grouped = query.reshape(rows, table.shape.key_value_heads, -1, size)
    seen = torch.arange(own_keys.shape[2], device=query.device) < own_lengths[:, None]
    own, own_sums = over_own(grouped, own_keys, own_values, seen[:, None, None], scaling)
    if len(table.held) == 1 and len(table.held[0].rows) == rows:  # as for one video on a CPU: nothing to sort
        states = table.held[0].states
        alone = over_prefix(grouped, states.keys[layer], states.values[layer], scaling)
        return merged(alone, (own, own_sums)).to(query.dtype).reshape(rows, heads, size)
    shared, shared_sums = torch.zeros_like(own), torch.full_like(own_sums, -torch.inf)
    for held in table.held:
        chosen = torch.tensor(held.rows, device=query.device)
        made = over_prefix(grouped[chosen], held.states.keys[layer], held.states.values[layer], scaling)
        shared[chosen], shared_sums[chosen] = made[0].to(shared.dtype), made[1]
    return merged((shared, shared_sums), (own, own_sums)).to(query.dtype).reshape(rows, heads, size)
