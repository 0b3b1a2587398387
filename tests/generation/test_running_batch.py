"""Rows that enter and leave at any time, against stock ``generate`` on each whole prompt alone."""

from __future__ import annotations

import gc
import logging
import random
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch

from pipeline.errors import OutOfMemoryError
from pipeline.generation.prefix_attention import PrefixStates
from pipeline.generation.row_buffers import KeptBuffers
from pipeline.generation.row_step import RowStep
from pipeline.generation.running_batch import Continuation, RunningBatch
from pipeline.generation.shared_prefix import Prefix, prefill

pytestmark = pytest.mark.moving

NEW = 20
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def qwen() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=64, hidden_size=64, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, initializer_range=0.3,
        )
    )  # fmt: skip


def aria() -> Any:
    from transformers import AriaTextConfig, AriaTextForCausalLM

    return AriaTextForCausalLM(
        AriaTextConfig(
            vocab_size=64, hidden_size=64, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, moe_num_experts=8, moe_topk=2, moe_num_shared_experts=1, initializer_range=0.3,
        )
    )  # fmt: skip


def experts_of_qwen3() -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=64, hidden_size=64, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_experts=8, num_experts_per_tok=2,
            initializer_range=0.3,
        )
    )  # fmt: skip


class Case:
    """A tiny random model, prefixes, suffixes, and what stock ``generate`` appends to each."""

    def __init__(self, make: Any, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(3)
        self.model = make().eval().to(device, dtype)
        self.device = device
        dice = random.Random(7)
        self.starts = [[dice.randrange(64) for _ in range(count)] for count in (5, 23, 11)]
        self.rows = {
            (place, row): [dice.randrange(64) for _ in range(dice.choice((1, 3, 8, 15)))]
            for place in range(3)
            for row in range(4)
        }

    def prefix(self, place: int) -> Prefix:
        ids = torch.tensor([self.starts[place]], device=self.device)
        with torch.inference_mode():
            embedded = self.model.get_input_embeddings()(ids)
        return prefill(self.model, embedded, torch.arange(ids.shape[1], device=self.device)[None])

    def batch(
        self, ends: frozenset[int] = frozenset(), new: int = NEW, kept: KeptBuffers | None = None
    ) -> RunningBatch[tuple[int, int]]:
        return RunningBatch(self.model, end_tokens=ends, is_complete=lambda _: False, max_new_tokens=new, kept=kept)

    def stock(self, key: tuple[int, int], ends: frozenset[int]) -> Continuation:
        from transformers import GenerationConfig

        ids = self.starts[key[0]] + self.rows[key]
        self.model.generation_config = GenerationConfig(eos_token_id=sorted(ends) or None, pad_token_id=0)
        whole = torch.tensor([ids])
        mask = torch.ones_like(whole)  # or generate takes token 0 for padding
        written = self.model.generate(whole, attention_mask=mask, do_sample=False, max_new_tokens=NEW)
        given = written[0, len(ids) :].tolist()
        return Continuation(tuple(token for token in given if token not in ends), given[-1] in ends)

    def all_at_once(self, batch: RunningBatch[tuple[int, int]]) -> dict[tuple[int, int], Continuation]:
        for place in range(3):
            batch.add(self.prefix(place), {key: row for key, row in self.rows.items() if key[0] == place})
        return finished(batch)


def finished(batch: RunningBatch[Any]) -> dict[Any, Continuation]:
    found: dict[Any, Continuation] = {}
    while batch:
        found.update(batch.step())
    return found


@pytest.fixture(scope="module", params=[qwen, aria, experts_of_qwen3])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture(autouse=True, params=[False, True], ids=["in turn", "ahead"])
def _order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a step begins before the tokens of the last one are looked at."""
    monkeypatch.setattr(RunningBatch, "_goes_ahead", request.param)


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_come_and_go_in_any_order_are_what_generate_says_of_each(case: Case, seed: int) -> None:
    dice = random.Random(seed)
    ends = frozenset(dice.sample(range(64), 4))
    batch, waiting, found = case.batch(ends), list(case.rows), {}
    prefixes = [case.prefix(place) for place in range(3)]
    dice.shuffle(waiting)
    while waiting or batch:
        if waiting and (not batch or dice.random() < 0.4):
            place = waiting[0][0]
            together = [key for key in waiting if key[0] == place][: dice.choice((1, 2, 4))]
            batch.add(prefixes[place], {key: case.rows[key] for key in together})
            waiting = [key for key in waiting if key not in together]
        else:
            found.update(batch.step())
    assert found == {key: case.stock(key, ends) for key in case.rows}
    assert len({len(one.tokens) for one in found.values()}) > 1


def test_buffers_grow_while_rows_are_in_them(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = case.all_at_once(case.batch())
    monkeypatch.setattr("pipeline.generation.row_states._COLUMNS", 2)
    monkeypatch.setattr("pipeline.generation.running_batch._NEW_AT_FIRST", 1)
    assert case.all_at_once(case.batch()) == expected


def test_memory_that_is_taken_midway_costs_no_row(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a while only two rows fit, then none, then all again."""
    expected = case.all_at_once(case.batch())
    run, calls, sizes = RowStep.run, 0, set()

    def full(self: RowStep, start: int, slots: Any, longest: int) -> None:
        nonlocal calls
        calls += 1
        if 10 < calls < 60 and (len(slots) > 2 or calls % 3 == 0):
            raise OutOfMemoryError("taken", "wait")
        sizes.add(len(slots))
        run(self, start, slots, longest)

    monkeypatch.setattr(RowStep, "run", full)
    assert case.all_at_once(case.batch()) == expected
    assert {12, 1} <= sizes


def test_suffixes_that_do_not_fit_change_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = case.all_at_once(case.batch())
    batch = case.batch()
    for place in range(3):
        prefix, rows = case.prefix(place), {key: row for key, row in case.rows.items() if key[0] == place}
        with monkeypatch.context() as patch:
            patch.setattr(batch, "_read", lambda *_: torch.empty(2**52))
            with pytest.raises(OutOfMemoryError):
                batch.add(prefix, rows)
        batch.add(prefix, rows)
    assert finished(batch) == expected


def test_nothing_fits_is_said_and_the_rows_are_still_there(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = case.batch()
    keys = [(1, 0), (1, 1)]
    batch.add(case.prefix(1), {key: case.rows[key] for key in keys})
    with monkeypatch.context() as patch:
        patch.setattr(RowStep, "run", lambda *_: torch.empty(2**52))
        patch.setattr("pipeline.generation.running_batch.attention_over_prefix", _full)
        with pytest.raises(OutOfMemoryError):
            batch.step()
    batch.drop(frozenset(keys[:1]))
    assert finished(batch) == {keys[1]: case.stock(keys[1], frozenset())}


def test_a_batch_takes_over_the_buffers_of_the_last_one_and_nothing_of_its_rows(case: Case) -> None:
    expected = case.all_at_once(case.batch())
    kept = KeptBuffers(case.model)
    first = case.all_at_once(case.batch(kept=kept))
    buffers = kept.take()
    assert buffers is not None
    with torch.inference_mode():
        for keys, values in buffers.states.layers:
            keys.fill_(torch.nan)
            values.fill_(torch.nan)
        kept.give_back(buffers)
    batch = case.batch(kept=kept)
    assert case.all_at_once(batch) == first == expected
    assert kept.take() is buffers


def test_kept_buffers_hold_no_memory_of_a_prefix_that_is_gone(case: Case) -> None:
    alive: list[weakref.ref[Any]] = []

    def watched(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        arrays = [tensor.numpy().copy() for tensor in tensors]
        alive.extend(map(weakref.ref, arrays))
        return tuple(map(torch.from_numpy, arrays))  # these, and all views of them, hold their array

    kept = KeptBuffers(case.model)
    batch = case.batch(kept=kept)
    read = case.prefix(1)
    states = PrefixStates(watched(read.states.keys), watched(read.states.values))
    batch.add(replace(read, states=states), {(1, 0): case.rows[1, 0]})
    del states
    assert all(each() is not None for each in alive)
    assert finished(batch) == {(1, 0): case.stock((1, 0), frozenset())}
    gc.collect()
    assert kept.capacity != (0, 0)
    assert not any(each() is not None for each in alive)


def test_two_batches_at_a_time_have_buffers_of_their_own(case: Case) -> None:
    kept, found = KeptBuffers(case.model), {}
    batches = [case.batch(kept=kept) for _ in range(2)]
    for batch, keys in zip(batches, ([(1, 0), (1, 1)], [(1, 2)]), strict=True):
        batch.add(case.prefix(1), {key: case.rows[key] for key in keys})
    while any(map(len, batches)):
        for batch in batches:
            found |= dict(batch.step()) if batch else {}
    assert found == {(1, row): case.stock((1, row), frozenset()) for row in range(3)}


def test_what_does_not_fit_beside_kept_buffers_is_tried_without_them(case: Case) -> None:
    kept = KeptBuffers(case.model)
    case.all_at_once(case.batch(kept=kept))

    def call() -> str:
        if kept.capacity != (0, 0):
            raise FULL
        return "done"

    assert kept.with_room(call) == "done"
    with pytest.raises(OutOfMemoryError):
        kept.with_room(lambda: _full(None))


def test_growth_is_known_before_the_first_row(case: Case) -> None:
    kept = KeptBuffers(case.model)
    batch, prefix = case.batch(kept=kept), case.prefix(1)
    needed = batch.growth(4, 15, prefix.states.bytes // prefix.length)
    batch.add(prefix, {key: row for key, row in case.rows.items() if key[0] == 1})
    assert needed == sum(tensor.nbytes for layer in batch._buffers.states.layers for tensor in layer)
    assert batch.growth(1, 1, 10**6) > 0
    finished(batch)
    assert batch.growth(4, 15, 10**6) == 0


def test_buffers_that_earlier_rows_needed_are_given_up_where_they_do_not_fit(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = case.all_at_once(case.batch())
    kept = KeptBuffers(case.model)
    long = case.batch(new=200, kept=kept)
    long.add(case.prefix(0), {(0, 0): [1] * 200})
    finished(long)
    made, asked = KeptBuffers.made, []

    def small(self: KeptBuffers, like: Any, capacity: tuple[int, int], *args: Any) -> Any:
        asked.append(capacity)
        if capacity[0] * capacity[1] > 4 * 128:
            raise FULL
        return made(self, like, capacity, *args)

    monkeypatch.setattr(KeptBuffers, "made", small)
    batch = case.batch(kept=kept)
    keys = [(1, row) for row in range(4)]
    batch.add(case.prefix(1), {key: case.rows[key] for key in keys})
    assert finished(batch) == {key: expected[key] for key in keys}
    assert asked == [(4, 512), (4, 128)]


def test_a_row_that_is_left_takes_no_room_of_those_that_have_gone(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its buffers cannot grow with their rows; alone it goes on in smaller ones."""
    monkeypatch.setattr("pipeline.generation.running_batch._NEW_AT_FIRST", 1)
    made, asked = KeptBuffers.made, []

    def small(self: KeptBuffers, like: Any, capacity: tuple[int, int], *args: Any) -> Any:
        asked.append(capacity)
        if capacity[0] * capacity[1] > 4 * 128:
            raise FULL
        return made(self, like, capacity, *args)

    monkeypatch.setattr(KeptBuffers, "made", small)
    batch = case.batch(new=200)
    prefix = case.prefix(1)
    batch.add(prefix, {(1, row): case.rows[1, row] for row in range(4)})
    for _ in range(100):
        assert batch.step() == []
    batch.drop(frozenset((1, row) for row in range(3)))
    (found,) = finished(batch).values()
    assert asked == [(4, 128), (4, 256), (1, 256)]
    alone = case.batch(new=200)
    alone.add(prefix, {(1, 3): case.rows[1, 3]})
    assert finished(alone)[1, 3] == found


def _full(model: Any) -> Any:
    raise OutOfMemoryError("taken", "wait")


@pytest.mark.parametrize("forced", [0, 1, 5])
def test_logits_of_given_tokens_are_those_of_the_whole_prompt(case: Case, forced: int) -> None:
    key = (1, 2)
    tokens = list(range(30, 30 + forced))
    ours = case.batch().logits(case.prefix(1), case.rows[key], tokens)
    whole = torch.tensor([case.starts[1] + case.rows[key] + tokens])
    with torch.inference_mode():
        stock = case.model(whole).logits[0, -1 - forced :]
    torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("make", [qwen, aria, experts_of_qwen3])
def test_captured_steps_write_what_eager_ones_write(make: Any, device: str) -> None:
    if int(device[-1]) >= torch.cuda.device_count():
        pytest.skip("needs two GPUs")
    case = Case(make, device, torch.bfloat16)
    eager, captured = case.batch(), case.batch()
    eager._kept._captures = False
    assert case.all_at_once(captured) == case.all_at_once(eager)
    buffers = captured._kept.take()
    assert buffers is not None
    assert buffers.step._graphs


@pytest.mark.gpu
def test_what_cannot_be_captured_is_said_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    case = Case(qwen, "cuda", torch.bfloat16)
    expected = case.all_at_once(case.batch())
    case.model.model.layers[0].register_forward_hook(lambda module, args, output: print(end=str(output[0].sum())[:0]))
    with caplog.at_level(logging.WARNING):
        assert case.all_at_once(case.batch()) == expected
    assert caplog.text.count("not captured as a CUDA graph") == 1
    assert torch.cuda.current_stream() == torch.cuda.default_stream()  # as for threads that load the next model
