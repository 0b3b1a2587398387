"""One step's attention over many prefixes against stock attention over each row's keys, one after another."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pipeline.generation import step_attention
from pipeline.generation.prefix_attention import PrefixStates
from pipeline.generation.step_attention import (
    AttentionShape,
    Blocks,
    PrefixTable,
    attend,
    attend_reference,
    fitting_blocks,
    kernel_obstacle,
)

ARIA = AttentionShape(layers=2, heads=20, key_value_heads=20, size=128)
GENS_3B = AttentionShape(layers=2, heads=16, key_value_heads=2, size=128)
QWEN_7B = AttentionShape(layers=2, heads=28, key_value_heads=4, size=128)
SHAPES = [
    AttentionShape(layers=2, heads=4, key_value_heads=2, size=8),
    AttentionShape(layers=2, heads=3, key_value_heads=3, size=64),
    AttentionShape(layers=2, heads=14, key_value_heads=2, size=80),
    AttentionShape(layers=2, heads=16, key_value_heads=2, size=96),
    AttentionShape(layers=2, heads=4, key_value_heads=2, size=128),
]
LENGTHS = (300, 64, None, 517, 1)
# One prefix for many rows, rows without a prefix, rows of an empty slot, rows that are not in use.
ASSIGNED: tuple[int | None, ...] = (3, 0, 0, None, 3, 1, 2, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0)
ROWS = 20


@dataclass
class Step:
    """What one call takes, and the parts that a stock call would see joined."""

    shape: AttentionShape
    table: PrefixTable
    states: list[PrefixStates | None]
    slots: Sequence[int | None]
    query: torch.Tensor
    own_keys: torch.Tensor
    own_values: torch.Tensor
    own_lengths: torch.Tensor

    @property
    def scaling(self) -> float:
        return self.shape.size**-0.5

    def call(self, attention, layer: int) -> torch.Tensor:
        own = (self.own_keys, self.own_values, self.own_lengths)
        return attention(self.query, self.table, layer, *own, self.scaling)

    def arrange(self, slots: Sequence[int | None]) -> None:
        self.slots = slots
        self.table.assign(slots)

    def stock(self, layer: int, *, backend: object = None) -> torch.Tensor:
        made = []
        for row, length in enumerate(self.own_lengths.tolist()):
            slot = self.slots[row] if row < len(self.slots) else None
            states = None if slot is None else self.states[slot]
            keys, values = self.own_keys[row, :, :length], self.own_values[row, :, :length]
            if states:
                keys = torch.cat([states.keys[layer], keys], 1)
                values = torch.cat([states.values[layer], values], 1)
            if not keys.shape[1]:
                made.append(torch.zeros_like(self.query[row]))
                continue
            heads = [tensor.repeat_interleave(self.shape.group, 0)[None] for tensor in (keys, values)]
            with torch.nn.attention.sdpa_kernel(backend or torch.nn.attention.SDPBackend.MATH):
                out = torch.nn.functional.scaled_dot_product_attention(
                    self.query[row][None, :, None], *heads, scale=self.scaling
                )
            made.append(out[0, :, 0])
        return torch.stack(made)


def step(
    shape: AttentionShape,
    lengths: Sequence[int | None],
    slots: Sequence[int | None],
    rows: int,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    capacity: int = 70,
    **blocks,
) -> Step:
    generator = torch.Generator(device).manual_seed(0)

    def noise(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator, device=device).to(dtype)

    def prefix(length: int, *, apart: bool) -> PrefixStates:
        def made() -> torch.Tensor:
            if apart:  # the layout before heads are moved to the front
                return noise(length, shape.key_value_heads, shape.size).transpose(0, 1)
            return noise(shape.key_value_heads, length, shape.size)

        return PrefixStates(*(tuple(made() for _ in range(shape.layers)) for _ in range(2)))

    states = [None if length is None else prefix(length, apart=slot == 3) for slot, length in enumerate(lengths)]
    table = PrefixTable(shape, slots=len(lengths), rows=rows, device=torch.device(device), **blocks)
    for slot, held in enumerate(states):
        if held is not None:
            table.put(slot, held)
    table.assign(slots)
    own = [noise(rows, shape.key_value_heads, capacity, shape.size) for _ in range(2)]
    own_lengths = torch.randint(1, capacity + 1, (rows,), generator=generator, device=device, dtype=torch.int32)
    own_lengths[[0, -1]] = 0
    return Step(shape, table, states, slots, noise(rows, shape.heads, shape.size), *own, own_lengths)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reference_is_stock_attention_over_joined_keys(shape: AttentionShape) -> None:
    made = step(shape, LENGTHS, ASSIGNED, ROWS)
    for slots in (ASSIGNED, (), (0,) * ROWS, tuple(reversed(ASSIGNED))):
        made.arrange(slots)
        for layer in range(shape.layers):
            torch.testing.assert_close(made.call(attend_reference, layer), made.stock(layer), atol=2e-6, rtol=1e-5)


def test_a_slot_that_is_filled_again_is_another_prefix_after_the_next_assignment() -> None:
    made = step(SHAPES[0], LENGTHS, ASSIGNED, ROWS)
    before = made.stock(0)
    made.table.put(0, made.states[3])
    made.table.clear(3)
    torch.testing.assert_close(made.call(attend_reference, 0), before, atol=2e-6, rtol=1e-5)
    made.states[0], made.states[3] = made.states[3], None
    made.arrange(ASSIGNED)
    torch.testing.assert_close(made.call(attend_reference, 0), made.stock(0), atol=2e-6, rtol=1e-5)
    assert (made.stock(0) - before).abs().max() > 0.1


def test_a_prefix_that_cannot_be_read_in_blocks_is_refused() -> None:
    table = PrefixTable(SHAPES[0], slots=1, rows=1, device=torch.device("cpu"))
    odd = tuple(torch.zeros(3, 10, 65)[:, :, 1:] for _ in range(2))
    with pytest.raises(ValueError, match="strides"):
        table.put(0, PrefixStates(odd, odd))


@pytest.mark.parametrize("rows", [1, 3, 64, 300])
@pytest.mark.parametrize("group", [1, 7, 8])
def test_pieces_of_work_cover_each_prefix_once_for_each_row_and_fit(rows: int, group: int) -> None:
    shape = AttentionShape(layers=1, heads=group * 2, key_value_heads=2, size=8)
    lengths = [(slot * 977) % 3000 + 1 for slot in range(40)]
    states = [PrefixStates(*[(torch.zeros(2, length, 8),)] * 2) for length in lengths]
    table = PrefixTable(shape, slots=40, rows=rows, device=torch.device("cpu"))
    for slot, held in enumerate(states):
        table.put(slot, held)
    for spread in (1, 3, 40):
        table.assign([row % spread for row in range(rows)])
        work = table.work.view(-1, 5).tolist()
        assert len(work) == table.items
        for row, (first, distance, count, place) in enumerate(table.routes.view(-1, 4).tolist()):
            pieces = [work[first + number * distance] for number in range(count)]
            covered = [token for _, start, end, _, _ in pieces for token in range(start, end)]
            assert covered == list(range(lengths[row % spread]))
            for slot, _, _, order, size in pieces:
                assert slot == row % spread
                assert place < size <= table.blocks.queries // group
                assert table.order[order + place] == row


def test_what_keeps_the_kernels_from_running_is_said() -> None:
    assert "cpu" in str(kernel_obstacle(ARIA, torch.bfloat16, torch.device("cpu")))


def test_the_reason_is_the_first_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> float:
        try:
            raise ValueError("needs K >= 16\nmore")
        except ValueError as error:
            raise RuntimeError("at 63:4:\n    ^") from error

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setitem(sys.modules, "pipeline.generation.step_kernels", step_attention)
    monkeypatch.setattr(step_attention, "_difference", failing)
    kernel_obstacle.cache_clear()
    reason = kernel_obstacle(ARIA, torch.bfloat16, torch.device("cuda"))
    kernel_obstacle.cache_clear()
    assert reason == "Triton does not run here (ValueError: needs K >= 16)"


def test_memory_that_ends_while_the_kernels_are_tried_is_not_taken_for_an_obstacle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcomes = iter([torch.OutOfMemoryError("CUDA out of memory"), 0.001])

    def difference(*_: object) -> float:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setitem(sys.modules, "pipeline.generation.step_kernels", step_attention)
    monkeypatch.setattr(step_attention, "_difference", difference)
    kernel_obstacle.cache_clear()
    with pytest.raises(torch.OutOfMemoryError):
        kernel_obstacle(ARIA, torch.bfloat16, torch.device("cuda"))
    assert kernel_obstacle(ARIA, torch.bfloat16, torch.device("cuda")) is None
    kernel_obstacle.cache_clear()


def test_without_triton_the_package_is_imported_and_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "pipeline.generation.step_kernels", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    kernel_obstacle.cache_clear()
    reason = kernel_obstacle(ARIA, torch.bfloat16, torch.device("cuda"))
    kernel_obstacle.cache_clear()
    assert reason is not None
    assert "triton" in reason


@pytest.mark.parametrize(("size", "kilobytes", "held"), [(128, 227, 192), (128, 99, 128), (80, 99, 128), (256, 99, 64)])
def test_blocks_fit_the_shared_memory_of_smaller_cards(size: int, kilobytes: int, held: int) -> None:
    blocks = fitting_blocks(AttentionShape(layers=1, heads=8, key_value_heads=1, size=size), kilobytes * 1024)
    assert blocks.tokens * blocks.stages == held


def compare_interpreted() -> None:
    """Run by the next test in a process of its own, since Triton decides on its import whether it is interpreted."""
    blocks = Blocks(queries=16, tokens=32, warps=4, stages=2, programs=4, least_tokens=64)
    for shape in SHAPES:
        made = step(shape, LENGTHS, ASSIGNED, ROWS, dtype=torch.float16, blocks=blocks)
        for slots in (ASSIGNED, (1, 3) * 8):
            made.arrange(slots)
            torch.testing.assert_close(made.call(attend, 1), made.call(attend_reference, 1), atol=2e-3, rtol=2e-3)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_interpreted_kernels_agree_with_the_reference() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", "from test_step_attention import compare_interpreted; compare_interpreted()"]
    folder = Path(__file__).parent
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, ARIA, GENS_3B, QWEN_7B], ids=str)
def test_kernels_in_a_captured_graph_are_as_exact_as_stock_backends(shape: AttentionShape, dtype: torch.dtype) -> None:
    from torch.nn.attention import SDPBackend

    obstacle = kernel_obstacle(shape, dtype, torch.device("cuda", torch.cuda.current_device()))
    if obstacle:
        pytest.skip(obstacle)
    lengths = (5900, 700, None, 3001, 1)
    made = step(shape, lengths, ASSIGNED, ROWS, device="cuda", dtype=dtype)
    layers = range(shape.layers)
    for layer in layers:
        made.call(attend, layer)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = [made.call(attend, layer) for layer in layers]
    for slots in (ASSIGNED, (), (0,) * ROWS, (3, 0) * 10):
        made.arrange(slots)
        made.own_lengths.copy_(made.own_lengths.roll(1))
        graph.replay()
        for layer, out in enumerate(captured):
            flash, efficient, exact = (
                made.stock(layer, backend=backend)
                for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
            )
            allowed = max(float((flash - efficient).abs().max()), 2 * torch.finfo(dtype).eps * float(exact.abs().max()))
            assert float((out - flash).abs().max()) <= allowed
            torch.testing.assert_close(out, made.call(attend_reference, layer), atol=2e-2, rtol=2e-2)
