"""What holds for every model on this machine, whatever its family and form."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_aria
import tiny_internvl
import tiny_qwen3_vl
from asking import answered
from hydra import compose, initialize_config_dir

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.config import build, conf_dir
from pipeline.domain import Frame, Question, Status, Video
from pipeline.errors import ConfigError

FAMILIES = {
    "qwen2_vl": "qwen2_vl_7b",
    "qwen2_5_vl": "qwen2_5_vl_7b",
    "qwen3_vl": "qwen3_vl_8b",
    "qwen3_vl_moe": "qwen3_vl_30b_a3b",
    "llava_onevision": "llava_onevision_0_5b",
    "aria": "aria",
    "internvl": "internvl3_8b",
}
WRITERS = {
    "qwen2_vl": tiny.write_qwen2_vl,
    "qwen2_5_vl": tiny.write_qwen2_5_vl,
    "qwen3_vl": tiny_qwen3_vl.write_qwen3_vl,
    "qwen3_vl_moe": tiny_qwen3_vl.write_qwen3_vl_moe,
    "llava_onevision": tiny.write_llava_onevision,
    "aria": tiny_aria.write_aria,
    "internvl": tiny_internvl.write_internvl,
}
WITHOUT_FORMS = ("aria", "internvl")
CONTEXT = 400
"""Room for two frames of any family, and not for a hundred."""
VIDEO = Video("clip.mp4", "f", 100.0, 25.0, 2500, 160, 90)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name), context=CONTEXT) for name, write in WRITERS.items()}


CASES = [(family, form) for family in FAMILIES for form in ("images", "video") if family not in WITHOUT_FORMS]
CASES += [(family, "images") for family in WITHOUT_FORMS]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    family, form = request.param
    return family, form


@pytest.fixture
def answerer(case: tuple[str, str], folders: dict[str, Path]) -> Any:
    family, form = case
    return small(folders, family, *(() if family in WITHOUT_FORMS else (f"answerer.form={form}",)))


def small(folders: dict[str, Path], family: str, *overrides: str) -> Answerer:
    settings = [f"answerer.checkpoint.source={folders[family]}", "answerer.checkpoint.device=cpu"]
    if "qwen" in family:
        settings.append("answerer.max_pixels=6400")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        settings += ["answerer.max_new_tokens=4", *overrides]
        config = compose(f"answerer/{FAMILIES[family]}", overrides=settings)
    made = build(config.answerer, "answerer")
    assert isinstance(made, Answerer)
    return made


def asked(frames: int, text: str = "Why?", options: tuple[str, ...] | None = None) -> AnswerRequest:
    pixels = np.random.default_rng(frames).integers(0, 256, (frames, 90, 160, 3), dtype=np.uint8)
    shown = tuple(Frame(2.0 * place, 50 * place, picture) for place, picture in enumerate(pixels))
    return AnswerRequest(Question(f"q{frames}", VIDEO.path, text, options), VIDEO, shown)


def test_a_failure_says_what_was_to_be_shown_and_what_to_do(answerer: Any, case: tuple[str, str]) -> None:
    requests = [asked(0), asked(2, " "), asked(100), asked(1)]
    answers = answered(answerer, requests)
    assert [answer.status for answer in answers[:3]] == [
        Status.NO_FRAMES,
        Status.INVALID_QUESTION,
        Status.CONTEXT_EXCEEDED,
    ]
    for request, answer in zip(requests, answers, strict=True):
        assert answer.form.startswith(case[1])
        assert answer.form.endswith(answerer.limits().time_told)
        assert answer.frame_times == tuple(frame.time for frame in request.frames)
    assert all("\n  what to do: " in answer.detail for answer in answers[:3])
    assert answers[2].cost.prompt_tokens > CONTEXT
    assert answers[3].cost.output_tokens > 0


def test_the_prompt_is_kept_with_marks_and_nothing_of_the_frames(answerer: Any, case: tuple[str, str]) -> None:
    request = asked(3, "What is seen?", ("a cat", "a dog"))
    prompt, processor = answerer.encode(request), answerer.processor
    said = processor.sent(prompt)
    marks = re.findall(r"<frames? [^>]*>", said)
    alone = ["<frame 1 at 0 s>", "<frame 2 at 2 s>", "<frame 3 at 4 s>"]
    together = ["<frames 1 to 3 at 0 to 4 s>"]
    assert marks in (alone, together)
    assert marks == alone or case[1] == "video"
    assert "What is seen?" in said
    assert "a dog" in said
    assert processor.tokenizer.decode([processor.picture_token], skip_special_tokens=False) not in said
    measured = processor.measured(prompt)
    assert measured["visual_tokens"] == sum(prompt.pictures)
    assert 0 < measured["visual_tokens"] < prompt.tokens


def test_the_budget_that_fits_is_named(answerer: Any) -> None:
    request = asked(100)
    (answer,) = answered(answerer, [request])
    named = re.search(r"selection\.budget=(\d+)", answer.detail)
    assert named is not None
    # Of the last frames, whose labels are the longest.
    last = [dataclasses.replace(request, frames=request.frames[-int(named[1]) - more :]) for more in (0, 1)]
    (fits,), (exceeds,) = (answered(answerer, [one]) for one in last)
    assert fits.cost.output_tokens > 0
    assert exceeds.status is Status.CONTEXT_EXCEEDED


def test_a_question_that_leaves_no_room_for_a_frame_is_to_be_shortened(answerer: Any) -> None:
    (answer,) = answered(answerer, [asked(1, "why " * 300)])
    assert answer.status is Status.CONTEXT_EXCEEDED
    assert "selection.budget" not in answer.detail
    assert "shorter question" in answer.detail


def test_remedies_name_settings_that_this_form_has(folders: dict[str, Path]) -> None:
    def remedy(family: str, *overrides: str) -> str:
        (answer,) = answered(small(folders, family, *overrides), [asked(100)])
        return answer.detail.split("what to do: ")[1]

    assert "answerer.max_pixels=3200" in remedy("qwen2_vl")
    assert "answerer.max_pixels" not in remedy("qwen2_vl", "answerer.min_pixels=6400")
    assert "answerer.frame_size=[28,28]" in remedy("qwen2_vl", "answerer.frame_size=[56,84]")
    assert "answerer.frame_size" not in remedy("qwen2_vl", "answerer.frame_size=[28,28]")
    assert "answerer.frame_size=[32,32]" in remedy("qwen3_vl", "answerer.frame_size=[64,96]")
    assert "answerer.form=video" in remedy("llava_onevision", "answerer.form=images")
    assert "answerer.form" not in remedy("llava_onevision", "answerer.form=video")


def test_memory_that_runs_out_while_frames_are_prepared_is_the_requests_failure(
    answerer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(self: Any, frames: Any) -> Any:
        if len(frames) > 1:
            raise MemoryError
        return prepared(self, frames)

    kind = type(answerer.processor)
    prepared = kind.prepared
    monkeypatch.setattr(kind, "prepared", prepare)
    large, one = answered(answerer, [asked(2), asked(1)])
    assert large.status is Status.OUT_OF_MEMORY
    assert large.frame_times == (0.0, 2.0)
    assert large.cost.prompt_tokens > 0
    assert "selection.budget=1" in large.detail
    assert "device=spread" in large.detail
    assert one.cost.output_tokens > 0


def test_an_answer_needs_a_token(answerer: Any) -> None:
    with pytest.raises(ConfigError, match=r"answerer\.max_new_tokens=0"):
        dataclasses.replace(answerer, max_new_tokens=0)


def test_close_frees_the_model_and_a_later_answer_loads_it_again(answerer: Any) -> None:
    before = answered(answerer, [asked(1)])
    model = answerer.model.network
    answerer.close()
    answerer.close()
    assert sum(parameter.numel() for parameter in model.parameters()) == 0
    assert answered(answerer, [asked(1)])[0].text == before[0].text


def test_questions_about_the_same_frames_are_prepared_and_read_once(
    answerer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("Why?", "What is shown here at the end?", "What is it?")
    first = asked(2)
    requests = [dataclasses.replace(first, question=Question(each, VIDEO.path, each)) for each in words]
    alone = [answered(answerer, [request])[0] for request in requests]
    counts: dict[str, int] = {"prepared": 0, "prefill": 0}
    kinds: dict[str, Any] = {"prepared": type(answerer.processor), "prefill": type(answerer.model)}

    def counted(name: str) -> Any:
        plain = getattr(kinds[name], name)

        def call(*given: Any) -> Any:
            counts[name] += 1
            return plain(*given)

        return call

    for name in counts:
        monkeypatch.setattr(kinds[name], name, counted(name))
    # The one in between shows other pictures at the same seconds.
    between = dataclasses.replace(
        first, frames=tuple(dataclasses.replace(frame, pixels=255 - frame.pixels) for frame in first.frames)
    )
    together = answered(answerer, [*requests, between])
    assert [answer.text for answer in together[:3]] == [answer.text for answer in alone]
    whole = [answer.cost.prompt_tokens for answer in alone]
    assert [answer.alone.prompt_tokens for answer in together[:3]] == whole
    # What was read once is paid for once.
    visual = alone[0].cost.more["visual_tokens"]
    assert sum(answer.cost.more["visual_tokens"] for answer in together[:3]) == pytest.approx(visual)
    assert sum(answer.cost.prompt_tokens for answer in together[:3]) < sum(whole) - visual
    assert counts == {"prepared": 2, "prefill": 2}


def says(model: Any, tokens: list[int]) -> None:
    """Make a loaded model write these tokens, each after the one before; the first follows the prompt's last token."""
    import torch

    assert len(set(tokens)) == len(tokens) <= 64
    with torch.no_grad():
        for layer in model.get_decoder().layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        head.weight = torch.nn.Parameter(torch.zeros_like(head.weight))
        embedding.weight.zero_()
        for place, (token, following) in enumerate(pairwise(tokens)):
            embedding.weight[token, place] = 1.0
            head.weight[following, place] = 1.0


THINKS = tiny.QWEN_TEMPLATE.replace("<|im_start|>assistant\n{%", "<|im_start|>assistant\n<think>\n{%")
assert tiny.QWEN_TEMPLATE != THINKS


@pytest.mark.parametrize(
    ("template", "written", "status", "option", "text", "thought"),
    [
        (tiny.QWEN_TEMPLATE, "<think>A</think> B<|im_end|>", Status.OK, 1, "B", "<think>A</think>"),
        (tiny.QWEN_TEMPLATE, " B<|im_end|>", Status.OK, 1, " B", ""),
        (tiny.QWEN_TEMPLATE, "<think>A B<|im_end|>", Status.TRUNCATED_OUTPUT, None, "", "<think>A B"),
        (THINKS, "A</think> B<|im_end|>", Status.OK, 1, "B", "A</think>"),
        (THINKS, "A<|im_end|>", Status.TRUNCATED_OUTPUT, None, "", "A"),
        (THINKS, "A</think><|im_end|>", Status.EMPTY_ANSWER, None, "", "A</think>"),
    ],
)
def test_thoughts_are_told_from_the_answer_though_their_marks_are_special_tokens(
    template: str,
    written: str,
    status: Status,
    option: int | None,
    text: str,
    thought: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiny, "QWEN_VISION", (*tiny.QWEN_VISION, "<think>", "</think>"))
    monkeypatch.setattr(tiny, "QWEN_TEMPLATE", template)
    answerer: Any = small({"qwen2_vl": tiny.write_qwen2_vl(tmp_path / "thinker")}, "qwen2_vl")
    tokenizer = answerer.processor.tokenizer
    said = tokenizer(written, add_special_tokens=False).input_ids
    says(answerer.model.network, [tokenizer("\n").input_ids[-1], *said])
    (answer,) = answered(answerer, [asked(1, options=("red", "blue"))])
    assert (answer.status, answer.option) == (status, option)
    assert (answer.text, answer.thought) == (text, thought)


def test_frames_of_several_sizes_are_counted_as_if_the_largest_were_kept(folders: dict[str, Path]) -> None:
    answerer = small(folders, "qwen2_vl", "answerer.form=images")
    request = asked(100)
    sizes = [2.0 if place % 10 == 0 else 0.25 for place in range(100)]  # no large one is among the last nine
    frames = tuple(dataclasses.replace(frame, scale=scale) for frame, scale in zip(request.frames, sizes, strict=True))
    mixed, large = (dataclasses.replace(request, frames=each) for each in (frames, frames[::10]))
    fitting = answerer.capacity(mixed)
    assert fitting == answerer.capacity(large) < 10
    kept = dataclasses.replace(request, frames=frames[::10][:fitting])
    (fits,) = answered(answerer, [kept])
    assert fits.cost.output_tokens > 0
