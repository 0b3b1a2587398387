"""The micro models were trained on what the pipeline feeds them: the same tokens, positions, pixels, and network."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from pipeline.answerers import AnswerRequest
from pipeline.benchmarks.micro.render import background, frame_at
from pipeline.benchmarks.micro.world import BACKGROUNDS, Plan, Scene, make_plan
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Frame, Question, Video
from pipeline.families.seam import Model, Opened
from scripts.micro_training.batches import SHAPES_OF, Writer
from scripts.micro_training.forward import Trained
from scripts.micro_training.models import CHECKPOINTS, KINDS, SIDE, Kind, load
from scripts.micro_training.pictures import Pictures, describe
from scripts.micro_training.samples import request_sample, scores_text, window_sample

ANSWERERS: tuple[Kind, ...] = ("qwen2_vl_micro", "llava_onevision_micro")


@cache
def configured(group: str, name: str) -> Any:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build(compose("evaluate", [f"{group}={name}"])[group], group)


@cache
def model_of(kind: Kind) -> Any:
    return load(CHECKPOINTS / kind).eval()


@cache
def gens_micro() -> Opened:
    sampler = configured("sampler", "gens_micro")
    opened: Opened = sampler.frame.opened(sampler.checkpoint)
    return opened


@cache
def gens_micro_model() -> Model:
    return gens_micro().load()


def some_plan(seed: int) -> Plan:
    return make_plan(Random(seed), 180, 200)


def training_pixels(plan: Plan, seconds: list[float]) -> torch.Tensor:
    from PIL import Image

    backdrops = [background(scene) for scene in plan.scenes]
    small = [np.asarray(Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for p in backdrops]
    events = [next((event for event in plan.events if event.visible(second)), None) for second in seconds]
    scenes = [sum(scene.start <= second for scene in plan.scenes) - 1 for second in seconds]
    rows = torch.from_numpy(describe(events, seconds, scenes))
    return Pictures(np.stack(small), "cpu").draw(rows, noise=0)


def eventful_seconds(plan: Plan) -> list[float]:
    return [float(int(event.start) + 1) for event in plan.events][:8]


def request(plan: Plan, seconds: list[float], question: Question) -> AnswerRequest:
    frames = tuple(Frame(second, round(second * 8), frame_at(plan, second)) for second in seconds)
    return AnswerRequest(question, Video("v", "f", plan.duration, 8.0, int(plan.duration * 8), 128, 128), frames)


QUESTIONS = (
    Question("q1", "v", "What color is the ring?", ("red", "cyan", "white", "purple"), 0),
    Question("q2", "v", "What appears immediately before the red star?", ("red ring", "blue star", "cyan cross"), 0),
    Question("q3", "v", "How many times does the white circle appear?", ("3", "1", "4", "2"), 0),
    Question("q4", "v", "What shape is the orange object?"),
)


@pytest.mark.parametrize("frames", [1, 2, 17, 32])
def test_the_sampler_is_asked_with_the_tokens_and_positions_it_was_trained_on(frames: int) -> None:
    sampler = configured("sampler", "gens_micro")
    writer = Writer("gens_micro", CHECKPOINTS / "gens_micro")
    assert (sampler.frame.height, sampler.frame.width) == (SIDE, SIDE)
    opened = gens_micro()
    plan = some_plan(1)
    shapes = [opened.processor.prepare(frame_at(plan, float(second))).shape for second in range(frames)]
    prefix, starts, _ = writer.sampler_prefix(frames)
    for question in QUESTIONS:
        head, tail = opened.processor.halves(sampler.prompt.turn(frames, sampler.query(question)), shapes)
        assert [*head, *tail] == [*prefix, *writer.sampler_question(question.text)]
    positions = gens_micro_model().positions(torch.tensor([[*head, *tail]]), shapes)
    trained = writer.positions(prefix, starts)
    assert torch.equal(positions[:, 0, : len(prefix)], torch.from_numpy(np.array(trained)))
    assert positions[0, 0, len(prefix)] == trained.max() + 1


def test_windows_and_prompt_of_the_sampler_are_those_of_the_training() -> None:
    sampler = configured("sampler", "gens_micro")
    assert sampler.window.frames == SHAPES_OF["gens_micro"].frames
    assert sampler.fps == 1.0
    assert sampler.question_form == "question"


@pytest.mark.parametrize("kind", ANSWERERS)
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_answerers_are_asked_with_the_tokens_they_were_trained_on(kind: Kind, question: Question) -> None:
    answerer = configured("answerer", kind)
    writer, plan = Writer(kind, CHECKPOINTS / kind), some_plan(2)
    for seconds in ([7.0], [0.0, 12.125, 99.0], eventful_seconds(plan)):
        asked = request(plan, seconds, question)
        prefix, _, _ = writer.answerer_prefix(seconds)
        assert answerer.encode(asked).input_ids.tolist() == [*prefix, *writer.answerer_question(question)]


@pytest.mark.parametrize("kind", ANSWERERS)
def test_pixels_in_training_are_those_of_the_pipeline(kind: Kind) -> None:
    plan = some_plan(3)
    seconds = eventful_seconds(plan)
    drawn = training_pixels(plan, seconds)
    asked = request(plan, seconds, QUESTIONS[0])
    answerer = configured("answerer", kind)
    prompt = answerer.encode(asked)
    fed = answerer.model.arguments(prompt, prompt.tokens)["pixel_values"]
    trained = as_patches(drawn) if kind == "qwen2_vl_micro" else drawn[:, None]
    difference = (trained - fed.float().cpu()).abs() * 127.5
    assert difference.mean() < 1.0  # of 255 grey levels; colour is halved in resolution, as the codec does
    assert difference.max() < 90
    assert {scene.kind for scene in plan.scenes} <= set(BACKGROUNDS)


def as_patches(pixels: torch.Tensor) -> torch.Tensor:
    frames = len(pixels)
    patches = pixels.view(frames, 3, 2, 2, 14, 2, 2, 14).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return patches.reshape(frames * 16, 3, 1, 196).expand(-1, -1, 2, -1).reshape(frames * 16, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_forward_pass_is_that_of_the_stock_model(kind: Kind) -> None:
    model = model_of(kind)
    trained = Trained(model).eval()
    shape = replace(SHAPES_OF[kind], samples=3)
    arrays = Writer(kind, CHECKPOINTS / kind).batch(Random(5), shape)
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    pictures = Pictures(np.stack([background(Scene(0.0, "noise", 1))[:SIDE, :SIDE]]), "cpu")
    pixels = pictures.draw(batch["frames"].flatten(0, 1))
    with torch.inference_mode():
        _, last = trained.states(batch, trained.pictures(pixels))
        for row, seen in enumerate(pixels.view(3, shape.frames, 3, SIDE, SIDE)):
            count = int((batch["picture"][row] < shape.tokens).sum())
            for question in range(1, int(batch["segment"][row].max()) + 1):
                kept = (batch["segment"][row] == 0) | (batch["segment"][row] == question)
                ours = model.lm_head(model.model.language_model.norm(last[row][kept]))
                stock = stock_logits(model, batch["ids"][row][kept], seen[:count])
                assert (ours - stock).abs().max() < 2e-3 * stock.abs().max()


def stock_logits(model: Any, ids: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    count = len(pixels)
    if "qwen" in model.config.model_type:
        grids = torch.tensor([[1, 4, 4]] * count)
        kinds = (ids == model.config.image_token_id).int()[None]
        output = model(
            input_ids=ids[None], pixel_values=as_patches(pixels), image_grid_thw=grids, mm_token_type_ids=kinds
        )
    else:
        output = model(
            input_ids=ids[None],
            pixel_values=pixels[:, None],
            image_sizes=torch.tensor([[128, 128]] * count),
            batch_num_images=torch.tensor([max(2, count)]),
        )
    logits: torch.Tensor = output.logits[0]
    return logits


def test_a_windows_scores_name_exactly_the_frames_that_matter() -> None:
    """Read back by the pipeline's own reader, the training answers are the frames in which the thing is to be seen."""
    from pipeline.samplers.output import read_scores

    random = Random(11)
    named = empty = 0
    for _ in range(200):
        sample = window_sample(random, 4)
        for asked in sample.asked:
            scores = read_scores(asked.answer, len(sample.events), 0)
            assert scores.ignored == scores.clamped == 0
            empty += asked.answer == "{}"
            for frame, event in enumerate(sample.events):
                if asked.kind in ("before", "after"):
                    expected = 4.0 if event and f"the {event.thing}?" in asked.text else None
                    if scores.scores.get(frame) != 5.0:
                        assert scores.scores.get(frame) == (expected if asked.answer != "{}" else None)
                else:
                    names = {"attribute": "shape", "shape": "color"}
                    word = event and str(
                        getattr(event.thing, names[asked.kind]) if asked.kind in names else event.thing
                    )
                    assert (frame in scores.scores) == (event is not None and f"the {word}" in asked.text)
                named += frame in scores.scores
    assert named > 1000
    assert empty > 100
    assert scores_text([([None], [], 5)]) == "{}"


def test_training_requests_can_be_answered_from_their_frames() -> None:
    random = Random(12)
    answerable = 0
    for _ in range(200):
        sample, question = request_sample(random, 8)
        (asked,) = sample.asked
        assert 1 <= len(sample.seconds) <= 8
        assert sample.seconds == sorted(set(sample.seconds))
        things = {str(event.thing) for event in sample.events if event}
        words = asked.answer if question.options is None else question.options["ABCD".index(asked.answer)]
        answerable += asked.kind == "count" or any(words in thing for thing in things)
    assert answerable > 180


def test_a_few_steps_of_training_run_and_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts import train_micro

    settings = {
        "device": "cpu",
        "workers": 0,
        "backgrounds": 128,
        "batch": 2,
        "frames": 8,
        "steps": 2,
        "every": 1,
        "warmup": 1,
    }
    common = ["--no-compile", *(word for key, value in settings.items() for word in (f"--{key}", str(value)))]
    precision = torch.get_float32_matmul_precision()  # which training lowers, for the whole process
    try:
        for more in ([], ["--resume"]):
            monkeypatch.setattr(sys, "argv", ["train_micro", "qwen2_vl_micro", "--out", str(tmp_path), *common, *more])
            train_micro.main()
    finally:
        torch.set_float32_matmul_precision(precision)
    state = torch.load(tmp_path / "qwen2_vl_micro.pt", weights_only=True)
    assert state["step"] == 6  # two and one more each: the step at which it ends is finished
    assert load(tmp_path / "qwen2_vl_micro").config.model_type == "qwen2_vl"
