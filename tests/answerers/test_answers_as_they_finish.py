"""Requests that come at any time, against stock ``generate`` on each prompt alone; and what breaks in the middle."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_aria
import tiny_glm
import tiny_internvl
import tiny_native
import torch
from asking import answered, configured, frames, request
from transformers import GenerationConfig

from pipeline.answerers import AnswerRequest, local
from pipeline.answerers.local import LocalAnswerer
from pipeline.domain import Answer, Status
from pipeline.errors import OutOfMemoryError
from pipeline.families.transformers import generation
from pipeline.families.transformers.generation import NativeModel
from pipeline.generation.framed_prompts import FramedPrompts
from pipeline.generation.limits import OutputLimits
from pipeline.generation.running_batch import RunningBatch
from pipeline.generation.shared_prefix import Prefix
from pipeline.generation.texts import Generated

pytestmark = [
    pytest.mark.moving,
    # GLM's processor in transformers 5.24 with numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

NEW = 12
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
KINDS: dict[str, tuple[Callable[[Path], Path], str, tuple[str, ...]]] = {
    "qwen2_5_vl": (tiny.write_qwen2_5_vl, "qwen2_5_vl_7b", ("answerer.max_pixels=6400",)),
    "aria": (tiny_aria.write_aria, "aria", ()),
    "llava_onevision": (tiny.write_llava_onevision, "llava_onevision_0_5b", ()),
    "internvl": (tiny_internvl.write_internvl, "internvl3_8b", ()),
    "glm": (tiny_glm.write_glm46v, "glm4_6v_flash", ("answerer.thinking=never",)),
    "any": (tiny_native.write_mistral3, "transformers", ()),
}


def requests() -> list[AnswerRequest]:
    """Seven questions about three sets of frames."""
    first, second, third = frames(0.0, 4.0), frames(1.0, 2.5, 70.0, seed=1), frames(3.0, seed=2)
    asked = [
        ("What colour is the square?", first, ("red", "blue")),
        ("What?", first, None),
        ("Why?", first, None),
        ("Why?", second, None),
        ("What appears after the circle?", second, ("square", "circle", "frame")),
        ("One?", third, None),
        ("Which is it that appears?", third, None),
    ]
    made = [request(text, shown, options) for text, shown, options in asked]
    return [replace(one, question=replace(one.question, id=f"q{place}")) for place, one in enumerate(made)]


def network_of(model: Any) -> Any:
    return model.model if isinstance(model, NativeModel) else model.network


def by_stock(model: Any, prompt: Any) -> tuple[int, ...]:
    if isinstance(model, NativeModel):
        given = generation._arguments(model.model, prompt)
    else:
        given = model.arguments(prompt, prompt.tokens)
        given["attention_mask"] = torch.ones_like(given["input_ids"])
    network = network_of(model)
    kept, network.generation_config = network.generation_config, GenerationConfig(eos_token_id=None, pad_token_id=0)
    written = network.generate(**given, do_sample=False, max_new_tokens=NEW)
    network.generation_config = kept
    return tuple(written[0, prompt.tokens :].tolist())


class Case:
    """An answerer, its prompts, and what stock makes of each until one of two tokens ends it."""

    def __init__(self, name: str, folder: Path) -> None:
        write, choice, overrides = KINDS[name]
        settings = [f"answerer.checkpoint.source={write(folder)}", "answerer.checkpoint.device=cpu"]
        kind: Any = LocalAnswerer
        self.answerer = configured(kind, choice, *settings, f"answerer.max_new_tokens={NEW}", *overrides)
        self.prompts = [self.answerer.encode(each) for each in requests()]
        free = [by_stock(self.answerer.model, prompt) for prompt in self.prompts]
        ends = [free[0][3], free[3][6]]
        network_of(self.answerer.model).generation_config.eos_token_id = ends
        stops = {*ends, self.answerer.processor.tokenizer.eos_token_id}
        self.expected = [
            tokens[: next((place for place, token in enumerate(tokens) if token in stops), NEW)] for tokens in free
        ]

    def writer(self, limits: OutputLimits | None = None) -> Any:
        return self.answerer.writer(self.answerer.model, limits or OutputLimits(NEW))

    def check(self, found: dict[int, Any]) -> None:
        assert {place: one.tokens for place, one in found.items()} == dict(enumerate(self.expected))


def run(writer: Any, prompts: dict[int, Any], steps: Iterator[bool]) -> dict[int, Any]:
    """Results in the order in which they are given; a prompt is added where a step is not to be taken."""
    left, found = list(prompts.items()), {}
    while left or len(writer):
        if left and not next(steps):
            writer.add(*left.pop(0))
        else:
            found |= {place: outcome.result for place, outcome in writer.step()}
    return found


def at_once() -> Iterator[bool]:
    return iter(lambda: False, True)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = Case(request.param, tmp_path_factory.mktemp(request.param))
    yield made
    made.answerer.close()


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = Case("qwen2_5_vl", tmp_path_factory.mktemp("qwen"))
    yield made
    made.answerer.close()


def test_answers_are_those_of_stock_in_any_order_of_arrival(case: Case) -> None:
    assert len({len(tokens) for tokens in case.expected}) > 1
    for seed in range(3):
        dice = random.Random(seed)
        places = dice.sample(range(len(case.prompts)), len(case.prompts))
        prompts = {place: case.prompts[place] for place in places}
        case.check(run(case.writer(), prompts, iter(lambda dice=dice: dice.random() < 0.8, None)))


def test_what_ends_early_is_given_early(case: Case) -> None:
    found = run(case.writer(), dict(enumerate(case.prompts)), at_once())
    case.check(found)
    steps = [min(len(one.tokens) + 1, NEW) for one in found.values()]  # with the token that ends it
    assert steps == sorted(steps)


class Reads:
    """Counts what is read of prompts; may fail."""

    def __init__(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lengths: list[int] = []
        self.fails: Callable[[Any], bool] = lambda prompt: False
        self._prefix = case.answerer.model.prefix
        monkeypatch.setattr(case.answerer.model, "prefix", self)

    def __call__(self, prompt: Any, length: int) -> Prefix:
        self.lengths.append(length)
        if self.fails(prompt):
            raise FULL
        made: Prefix = self._prefix(prompt, length)
        return made


def test_frames_are_read_once_for_questions_that_come_later(qwen: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """While others about them are answered, and when these have just been."""
    reads, writer, found = Reads(qwen, monkeypatch), qwen.writer(), {}
    writer.add(0, qwen.prompts[0])
    for _ in range(3):
        assert writer.step() == []
    writer.add(1, qwen.prompts[1])
    while len(writer):
        found |= dict(writer.step())
    writer.add(2, qwen.prompts[2])
    while len(writer):
        found |= dict(writer.step())
    assert reads.lengths == [qwen.prompts[0].tokens - 1]
    assert [found[place].result.tokens for place in range(3)] == qwen.expected[:3]
    writer.add(3, qwen.prompts[3])
    writer.step()
    writer.add(0, qwen.prompts[0])
    while len(writer):
        writer.step()
    assert len(reads.lengths) == 3  # those that nobody asks about are let go of for others


def test_seconds_of_the_model_are_shared_out(qwen: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", time.thread_time)  # which other work on the machine does not change
    began = time.perf_counter()
    writer = qwen.writer()
    for place, prompt in enumerate(qwen.prompts):
        writer.add(place, prompt)
    outcomes = [outcome for _ in iter(lambda: len(writer), 0) for _, outcome in writer.step()]
    spent = time.perf_counter() - began
    works = [outcome.work for outcome in outcomes]
    assert 0.8 * spent < sum(work.prefill + work.generate for work in works) <= spent
    assert min(min(work.prefill, work.generate) for work in works) > 0
    # Alone, each would have taken all in which it took part.
    assert all(work.whole_prefill + work.whole_generate <= spent for work in works)
    assert sum(work.whole_generate for work in works) > sum(work.generate for work in works)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_by_its_bytes_waits(qwen: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is asked for the prefix, as much again to read it, and for all that the rows may write."""
    writer, most = qwen.writer(), 0
    asked: list[int] = []
    monkeypatch.setattr(writer._room, "_is_free", lambda size: bool(asked.append(size)) or not len(writer._rows))
    step = writer.step

    def counted() -> Any:
        nonlocal most
        given = step()
        most = max(most, len({id(row.read) for row in writer._rows.values()}))
        return given

    monkeypatch.setattr(writer, "step", counted)
    qwen.check(run(writer, dict(enumerate(qwen.prompts)), at_once()))
    assert most == 1
    token = (
        2 * 4 * sum(layer.self_attn.k_proj.out_features for layer in qwen.answerer.model.language.get_decoder().layers)
    )
    assert token * 2 * qwen.prompts[3].frames_end < max(asked) < 2**40


def test_what_does_not_fit_though_it_was_reckoned_with_waits(
    qwen: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reads = Reads(qwen, monkeypatch)
    writer = qwen.writer()
    reads.fails = lambda prompt: len(writer._rows) > 0
    with caplog.at_level(logging.WARNING, "pipeline.generation.framed_prompts"):
        qwen.check(run(writer, dict(enumerate(qwen.prompts)), at_once()))
    assert "execution.answer_batch=" in caplog.text


@pytest.mark.parametrize("most", [1, 2])
def test_rows_that_do_not_fit_together_are_split(qwen: Case, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    add = RunningBatch.add

    def small(self: Any, prefix: Prefix, suffixes: Any) -> None:
        if len(self) + len(suffixes) > most:
            raise OutOfMemoryError("taken", "wait")
        add(self, prefix, suffixes)

    monkeypatch.setattr(RunningBatch, "add", small)
    qwen.check(run(qwen.writer(), dict(enumerate(qwen.prompts)), at_once()))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_rows_that_cannot_write_on_make_way_and_are_answered_later(
    qwen: Case, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    step, calls = RunningBatch.step, 0

    def taken(self: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 4 and len(self) > most:
            raise OutOfMemoryError("taken", "wait")
        return step(self)

    monkeypatch.setattr(RunningBatch, "step", taken)
    qwen.check(run(qwen.writer(), dict(enumerate(qwen.prompts)), at_once()))


def test_what_does_not_fit_alone_fails_alone(qwen: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(qwen, monkeypatch)
    reads.fails = lambda prompt: prompt.frames is qwen.prompts[3].frames
    found = run(qwen.writer(), dict(enumerate(qwen.prompts)), at_once())
    failed = [place for place, one in found.items() if isinstance(one, OutOfMemoryError)]
    assert sorted(failed) == [3, 4]
    assert all(one.tokens == qwen.expected[place] for place, one in found.items() if place not in failed)


# --- whole requests ---------------------------------------------------------------------------------------------------


def texts(answers: Sequence[Answer]) -> dict[str, str]:
    return {answer.question_id: answer.text for answer in answers}


def test_requests_in_the_model_go_on_while_the_next_one_has_to_be_waited_for(qwen: Case) -> None:
    expected = [answer.text for answer in answered(qwen.answerer, requests())]
    early = threading.Event()

    def stream() -> Iterator[AnswerRequest]:
        yield from requests()[:2]
        assert early.wait(30.0)
        yield from requests()[2:]

    found = {}
    for answer in qwen.answerer.answer(stream(), 8):
        found[answer.question_id] = answer.text
        if len(found) == 2:
            early.set()
    assert [found[f"q{place}"] for place in range(7)] == expected


def test_a_request_enters_as_soon_as_another_is_answered(qwen: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [answer.text for answer in answered(qwen.answerer, requests(), batch=1)]
    held: list[int] = []
    add, step = FramedPrompts.add, FramedPrompts.step
    made: list[local.Ahead[Any, Any]] = []

    class Seen(local.Ahead[Any, Any]):
        def __init__(self, *given: Any) -> None:
            made.append(self)
            super().__init__(*given)

    def after_the_next_is_prepared(self: Any) -> Any:
        with made[-1]._changed:
            assert made[-1]._changed.wait_for(lambda: made[-1]._waiting or made[-1]._over, 60.0)
        return step(self)

    monkeypatch.setattr(local, "Ahead", Seen)
    monkeypatch.setattr(FramedPrompts, "step", after_the_next_is_prepared)
    monkeypatch.setattr(FramedPrompts, "add", lambda self, *given: (add(self, *given), held.append(len(self))))
    assert [answer.text for answer in answered(qwen.answerer, requests(), batch=2)] == expected
    assert len(held) == 7
    assert max(held) == 2  # never more, and not only after both were answered:
    assert held[2:].count(2) >= 4


def test_a_request_at_which_the_model_fails_leaves_the_others_alone(
    qwen: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before any other is answered, if one was read."""
    expected = [answer.text for answer in answered(replace(qwen.answerer), requests())]
    fresh = replace(qwen.answerer)
    prefix = fresh.model.prefix

    def odd(prompt: Any, length: int) -> Prefix:
        if len(prompt.frames) == 3:
            raise ValueError("an odd number of pictures\nof all things")
        made: Prefix = prefix(prompt, length)
        return made

    monkeypatch.setattr(fresh.model, "prefix", odd)
    answers = answered(fresh, requests())
    for place, answer in enumerate(answers):
        if place in (3, 4):
            assert answer.status is Status.UNSUPPORTED
            assert "ValueError: an odd number of pictures." in answer.detail
            assert "selection.budget=1" in answer.detail
            assert answer.cost.prompt_tokens == qwen.prompts[place].tokens
        else:
            assert answer.text == expected[place]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError("CUDA error: device-side assert triggered")])
def test_what_is_finished_is_given_before_what_ended_the_rest(
    qwen: Case, monkeypatch: pytest.MonkeyPatch, stop: Any
) -> None:
    expected = texts(answered(qwen.answerer, requests()))
    advance = RunningBatch._advance

    def stopped(self: Any) -> Any:
        if self._finished:
            raise stop
        return advance(self)

    monkeypatch.setattr(RunningBatch, "_advance", stopped)
    given: list[Answer] = []
    with pytest.raises(stop if isinstance(stop, type) else type(stop)):
        given.extend(qwen.answerer.answer(requests(), 8))
    assert given
    assert all(expected[answer.question_id] == answer.text for answer in given)
    monkeypatch.undo()
    assert texts(answered(qwen.answerer, requests())) == expected


def test_a_writer_that_goes_one_by_one_keeps_what_was_read_for_those_behind(tmp_path: Path) -> None:
    kind: Any = LocalAnswerer
    ours = configured(
        kind,
        "transformers",
        f"answerer.checkpoint.source={tiny_native.write_gemma4(tmp_path)}",
        *("answerer.checkpoint.device=cpu", f"answerer.max_new_tokens={NEW}"),
    )
    prompts = [ours.encode(each) for each in requests()[:4]]
    model, limits = ours.model, OutputLimits(NEW)
    alone = [model.write(prompt, limits, None) for prompt in prompts]
    fails = iter([False, True, False, False, False, False])
    write = NativeModel.write

    def full(self: Any, prompt: Any, limits: OutputLimits, beginning: Any) -> Generated:
        if next(fails):
            assert beginning is not None
            raise FULL
        made: Generated = write(self, prompt, limits, beginning)
        return made

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(NativeModel, "write", full)
        found = run(model.writer(limits), dict(enumerate(prompts)), at_once())
    assert [found[place] for place in range(4)] == alone
    ours.close()
