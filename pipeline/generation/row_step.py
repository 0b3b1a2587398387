"""One step of a running batch: the next token of each row, eagerly or as a captured CUDA graph.

A step of a small batch is a thousand kernels of a few microseconds. Launching them from Python takes three times as
long as running them, so where it can be the whole step, from the embedding to the most likely token, is captured once
for each size of batch and replayed. The eager step is the same code, uncaptured; it is what a CPU, models spread over
several devices and layers that cannot be captured use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from pipeline.errors import OutOfMemoryError
from pipeline.generation import prefix_attention
from pipeline.generation.cached_reading import read_with_cache
from pipeline.generation.memory import mapped_out_of_memory
from pipeline.generation.prefix_attention import PrefixStates
from pipeline.generation.row_states import RowStates, StepCache, rows_bucket, sent
from pipeline.generation.step_attention import (
    AttentionShape,
    PrefixTable,
    attend,
    attend_reference,
    kernel_obstacle,
)
from pipeline.spans import span

_LOG = logging.getLogger(__name__)

_WASTE = 4
"""A graph of a batch this many times as large as needed is replayed rather than a new one captured."""


@dataclass(frozen=True)
class StepRows:
    """The attention of a step."""

    table: PrefixTable
    lengths: torch.Tensor
    """Own tokens of each row, with the new one: ``[rows]``, int32."""
    attend_to: Callable[..., torch.Tensor]

    def attend(
        self,
        query: torch.Tensor,
        layer: int,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """As :class:`AttendsRows`, of one new token a row; what it sees is in ``lengths``, not in the mask."""
        lengths = self.lengths.to(query.device)
        return self.attend_to(query[:, :, 0], self.table, layer, key, value, lengths, scaling).unsqueeze(2)


class RowInputs:
    """What a step reads and writes of each row, on the device of the embedding.

    Args:
        rows: capacity.
        device: of the embedding.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.ids = torch.zeros(rows, dtype=torch.int64, device=device)
        """The last token written, which the next step reads."""
        self.positions = torch.zeros(rows, dtype=torch.int64, device=device)
        """Positions of these tokens."""
        self.lengths = torch.zeros(rows, dtype=torch.int32, device=device)
        """Own tokens that were read."""
        self.active = torch.zeros(rows, dtype=torch.int32, device=device)
        """1 for a row that is in use. Idle ones are all alike, so that they cost a mixture of experts one token."""

    def copied_from(self, other: RowInputs) -> None:
        """Take over the first rows, as many as there is room for."""
        for mine, theirs in zip(self._all(), other._all(), strict=True):
            rows = min(len(mine), len(theirs))
            mine[:rows] = theirs[:rows]

    def last_tokens(self, rows: int) -> Callable[[], list[int]]:
        """What gives the last tokens of the first rows as they are now; it does not wait for what begins after this."""
        if not self.ids.is_cuda:
            found: list[int] = self.ids[:rows].tolist()
            return lambda: found
        copy = torch.empty(rows, dtype=self.ids.dtype, pin_memory=True)
        copy.copy_(self.ids[:rows], non_blocking=True)
        copied = torch.cuda.current_stream(self.ids.device).record_event()

        def wait() -> list[int]:
            copied.synchronize()
            tokens: list[int] = copy.tolist()
            return tokens

        return wait

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows to the places of others."""
        at, to = (sent(rows, self.ids.device) for rows in (sources, targets))
        for each in self._all():
            each[to] = each[at]

    def clear(self, start: int, end: int) -> None:
        """Let rows be idle."""
        for each in self._all():
            each[start:end] = 0

    def _all(self) -> tuple[torch.Tensor, ...]:
        return self.ids, self.positions, self.lengths, self.active


@contextmanager
def attention_over_prefix(model: Any) -> Iterator[None]:
    """Exchange the attention of the model's text decoder for the one that reads prefixes."""
    prefix_attention.register()
    config = model.get_decoder().config
    stock = config._attn_implementation
    config._attn_implementation = prefix_attention.NAME
    try:
        yield
    finally:
        config._attn_implementation = stock


@lru_cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all graphs of a device, since cuBLAS keeps a workspace for each stream that it was used on."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def _capturing(graph: torch.cuda.CUDAGraph, pool: Any, device: torch.device) -> Iterator[None]:
    """Capture what is called on a device, whichever is the current one.

    Where the end of a failed capture raises too, ``torch.cuda.graph`` does not set the current stream back. Models that
    are loaded next would be read on one stream while transformers' threads write them on another, so that it is set
    back here.
    """
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
        stream = _capture_stream(device)
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            yield


class RowStep:
    """Steps of rows in buffers, which it holds as long as these stay where they are.

    Args:
        model: with a text decoder and output embeddings.
        states: keys and values of the rows.
        inputs: their tokens and positions.
        capture: whether graphs may be captured; see :func:`capture_obstacle`.
    """

    def __init__(self, model: Any, states: RowStates, inputs: RowInputs, capture: bool) -> None:
        self._model = model
        self._states, self._inputs = states, inputs
        keys = states.layers[0][0]
        heads: int = model.get_decoder().config.num_attention_heads
        self._shape = AttentionShape(len(states.layers), heads, keys.shape[1], keys.shape[3])
        self._device = keys.device
        is_spread = len({layer[0].device for layer in states.layers}) > 1  # and a table is on one device
        obstacle = kernel_obstacle(self._shape, keys.dtype, keys.device)
        self._attend = attend_reference if is_spread or obstacle is not None else attend
        self._capture = capture
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, PrefixTable]] = {}
        self._pool: Any = None
        self._prefixes: dict[int, PrefixStates] = {}
        self._tables: dict[int, PrefixTable] = {}  # by number of rows: those of the graphs, and one more
        self._eager: int | None = None
        self._assigned: tuple[int, tuple[int | None, ...]] | None = None

    def put(self, slot: int, states: PrefixStates) -> None:
        """Let rows of a slot begin with a prefix."""
        self._prefixes[slot] = states
        for table in self._tables.values():
            table.put(slot, states)
        self._assigned = None

    def clear(self, slots: Sequence[int]) -> None:
        """Let go of prefixes that no row begins with any more."""
        for slot in slots:
            del self._prefixes[slot]
        for table in self._tables.values():
            for slot in slots:
                table.clear(slot)
            table.assign(())  # until then it holds on to their memory
        self._assigned = None

    def run(self, start: int, slots: Sequence[int], longest: int) -> None:
        """Read the last token of rows that follow each other, and write the most likely next ones.

        Args:
            start: the first of the rows.
            slots: of the prefix of each.
            longest: no row has more own tokens with the new one.

        Raises:
            OutOfMemoryError: nothing was changed.
        """
        with mapped_out_of_memory():
            size = self._captured_size(len(slots)) if self._capture and not start else None
            if size is not None:
                self._assign(size, slots)
                self._graphs[size][0].replay()
                return
            if not self._capture or start:
                self.forward(start, slots, longest)
                return
            size = rows_bucket(len(slots))
            self._assign(size, slots)
            self._advance(0, size, self._states.columns, self._tables[size])  # in earnest, and warms up
        with span("capture"):
            self._try_to_capture(size)

    def forward(self, start: int, slots: Sequence[int], longest: int) -> torch.Tensor:
        """The same, eagerly; gives the logits, ``[rows, vocabulary]``."""
        size = len(slots)  # the kernels run over all rows of a table
        if self._eager is not None and self._eager != size and self._eager not in self._graphs:
            del self._tables[self._eager]
        self._eager = size
        self._assign(size, slots)
        return self._advance(start, start + size, longest, self._tables[size])

    def _captured_size(self, rows: int) -> int | None:
        fitting = [size for size in self._graphs if rows <= size <= _WASTE * rows]
        return min(fitting, default=None)

    def _assign(self, size: int, slots: Sequence[int]) -> None:
        if size not in self._tables:
            table = PrefixTable(self._shape, slots=self._states.rows, rows=size, device=self._device)
            for slot, states in self._prefixes.items():
                table.put(slot, states)
            self._tables[size] = table
        if self._assigned != (size, (*slots,)):
            self._tables[size].assign(list(slots))
            self._assigned = (size, (*slots,))

    def _try_to_capture(self, size: int) -> None:
        graph = torch.cuda.CUDAGraph()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        try:
            with mapped_out_of_memory(), _capturing(graph, self._pool, self._device):
                self._advance(0, size, self._states.columns, self._tables[size])
        except OutOfMemoryError:  # eager steps go on, and the next one tries again
            return
        except Exception as error:  # a layer that waits for the device fails in its own way
            first, _, _ = str(error).partition("\n")
            report_uncaptured(self._model, first or type(error).__name__)
            self._capture = False
            self._graphs.clear()
            return
        self._graphs[size] = (graph, self._tables[size])

    def _advance(self, start: int, end: int, longest: int, table: PrefixTable) -> torch.Tensor:
        logits = self._read(start, end, longest, table)
        inputs = self._inputs
        active = inputs.active[start:end]
        inputs.ids[start:end] = logits.argmax(-1).to(active.device) * active
        inputs.positions[start:end] += active
        inputs.lengths[start:end] += active
        return logits

    def _read(self, start: int, end: int, longest: int, table: PrefixTable) -> torch.Tensor:
        inputs = self._inputs
        lengths = inputs.lengths[start:end]
        cache = StepCache(self._states, start, end, lengths.long(), longest)
        embed = self._model.get_input_embeddings()
        output = read_with_cache(
            self._model.get_decoder(),
            cache,
            inputs_embeds=embed(inputs.ids[start:end, None]),
            attention_mask=torch.ones(end - start, 1, 1, 1, dtype=torch.bool, device=lengths.device),
            position_ids=inputs.positions[start:end, None],
            prefixes=StepRows(table, lengths + inputs.active[start:end], self._attend),
        )
        logits: torch.Tensor = self._model.get_output_embeddings()(output.last_hidden_state[:, -1])
        return logits


def capture_obstacle(model: Any, like: PrefixStates) -> str | None:
    """Why steps of a model cannot be captured as a CUDA graph; None if it is to be tried."""
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) > 1:
        return "the model is spread over several devices"
    if any(hasattr(module, "_hf_hook") for module in model.modules()):
        return "accelerate moves its tensors at each call"
    shapes = {(tensor.shape[0], tensor.shape[2], tensor.dtype) for tensor in (*like.keys, *like.values)}
    if len(shapes) > 1:
        return "its layers have keys and values of different shapes"
    keys = like.keys[0]
    heads = model.get_decoder().config.num_attention_heads
    return kernel_obstacle(AttentionShape(len(like.keys), heads, keys.shape[0], keys.shape[2]), keys.dtype, keys.device)


def report_uncaptured(model: Any, reason: str) -> None:
    """Say in one line why steps are slower than they could be. On a CPU there is nothing to say."""
    if any(parameter.is_cuda for parameter in model.parameters()):
        _LOG.warning(
            "Steps of %s are not captured as a CUDA graph, so each takes longer: %s.", type(model).__name__, reason
        )
