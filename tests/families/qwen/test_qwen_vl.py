from __future__ import annotations

import dataclasses
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from asking import VIDEO, answered, configured, frames
from same_decisions import Decisions, step_alike

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.config import conf_dir
from pipeline.domain import Frame, Question, Status
from pipeline.errors import CheckpointError, ConfigError, FramesError
from pipeline.families.chat import FrameLabels
from pipeline.families.qwen.answerer import QwenVL
from pipeline.families.qwen.processor import VideoForm

pytestmark = pytest.mark.moving

NAMES = ("qwen2_vl_2b", "qwen2_vl_7b", "qwen2_vl_72b", "qwen2_5_vl_3b", "qwen2_5_vl_7b", "qwen2_5_vl_72b")
FAMILIES = ("qwen2_vl", "qwen2_5_vl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: getattr(tiny, f"write_{name}")(tmp_path_factory.mktemp(name)) for name in FAMILIES}


@pytest.fixture(scope="module")
def plain(folders: dict[str, Path]) -> dict[str, QwenVL]:
    """The README's answerer on a tiny checkpoint of each family."""
    return {
        name: configured(
            QwenVL,
            "qwen2_vl_7b",
            f"answerer.checkpoint.source={folder}",
            "answerer.checkpoint.device=cpu",
            "answerer.max_pixels=6400",
            "answerer.max_new_tokens=8",
        )
        for name, folder in folders.items()
    }


def request(
    text: str, options: tuple[str, ...] | None = None, shown: tuple[Frame, ...] = (), name: str = "q"
) -> AnswerRequest:
    return AnswerRequest(Question(name, VIDEO.path, text, options), VIDEO, shown)


ASKED = [
    request("What colour is the square?", ("red", "blue"), frames(0.0, 4.0), "a"),
    request("Why?", None, frames(1.0, 2.5, 70.0, seed=1), "b"),
    request("What appears after the circle?", ("square", "circle", "frame"), frames(3.0, seed=2), "c"),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_builds_the_checkpoint_it_names_without_torch(name: str) -> None:
    answerer = configured(QwenVL, name)
    size = name.rsplit("_", 1)[1].upper()
    generation = "2.5" if "2_5" in name else "2"
    assert answerer.name == name
    assert answerer.checkpoint.source == f"Qwen/Qwen{generation}-VL-{size}-Instruct"
    assert (answerer.checkpoint.device == "spread") == (size == "72B")
    assert isinstance(answerer, Answerer)
    assert answerer.images.label.format(time=12.34) == "12.3s: "


def test_building_and_limits_import_no_torch(folders: dict[str, Path]) -> None:
    import subprocess

    code = (
        "import sys; from pipeline.config import build, conf_dir; from hydra import compose, initialize_config_dir;"
        "initialize_config_dir(str(conf_dir()), version_base='1.3').__enter__();"
        f"source = 'answerer.checkpoint.source=' + {str(folders['qwen2_vl'])!r};"
        "node = compose('answerer/qwen2_vl_7b', [source]).answerer;"
        "answerer = build(node, 'answerer'); answerer.identity();"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=conf_dir().parent, env=dict(os.environ))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["images", "video"])
def test_an_answer_is_the_same_alone_and_in_any_batch(plain: dict[str, QwenVL], family: str, form: Any) -> None:
    answerer = dataclasses.replace(plain[family], form=form)
    together = answered(answerer, ASKED)
    assert [answer.question_id for answer in together] == ["a", "b", "c"]
    for asked, answer in zip(ASKED, together, strict=True):
        (alone,) = answered(answerer, [asked])
        assert alone.text == answer.text
        assert alone.status == answer.status
        assert answer.frame_times == tuple(frame.time for frame in asked.frames)
        assert answer.cost.prompt_tokens == answerer.encode(asked).tokens
        assert answer.form.startswith(f"{form} of 56 x 84 pixels")
    assert [a.text for a in answered(answerer, ASKED[::-1])] == [a.text for a in together[::-1]]
    answerer.close()


@pytest.mark.parametrize("form", ["images", "video"])
def test_answers_come_from_the_pictures(plain: dict[str, QwenVL], form: Any) -> None:
    answerer = dataclasses.replace(plain["qwen2_vl"], form=form)
    texts = {answered(answerer, [request("Why?", None, frames(0.0, 1.0, seed=seed))])[0].text for seed in range(3)}
    assert len(texts) > 1


@pytest.mark.parametrize(
    ("family", "form", "told"),
    [
        ("qwen2_vl", "images", True),
        ("qwen2_5_vl", "images", True),
        ("qwen2_5_vl", "video", True),
        ("qwen2_vl", "video", False),
    ],
)
def test_the_time_between_frames_reaches_the_model_where_limits_say_so(
    plain: dict[str, QwenVL], family: str, form: Any, told: bool
) -> None:
    answerer = dataclasses.replace(plain[family], form=form)
    near, far = frames(0.0, 1.0), frames(0.0, 1000.0)
    first, second = (answered(answerer, [request("Why?", None, shown)])[0].text for shown in (near, far))
    assert (first != second) == told
    assert ("not told" in answerer.limits().time_told) != told


def test_the_image_form_puts_its_second_before_each_frame(plain: dict[str, QwenVL]) -> None:
    answerer = plain["qwen2_vl"]
    encoded = answerer.encode(ASKED[1])
    tokenizer = answerer.processor.tokenizer
    words = tokenizer.decode(encoded.input_ids.tolist())
    pads = "<|image_pad|>" * 6
    assert (
        f"1.0s: <|vision_start|>{pads}<|vision_end|>\n2.5s: <|vision_start|>{pads}<|vision_end|>\n"
        f"70.0s: <|vision_start|>{pads}<|vision_end|>\nWhy?<|im_end|>" in words
    )
    assert [frame.shape.tokens for frame in encoded.frames] == [6, 6, 6]
    assert encoded.patches == 3 * 24
    given = answerer.model.arguments(encoded, encoded.tokens)
    assert int((given["mm_token_type_ids"] == 1).sum()) == 18


def test_the_video_form_keeps_distant_frames_apart_and_their_times_true(plain: dict[str, QwenVL]) -> None:
    answerer = dataclasses.replace(plain["qwen2_5_vl"], form="video", video=VideoForm(2.0))
    encoded = answerer.encode(request("Why?", None, frames(1.0, 2.0, 70.0, 71.5, 72.0)))
    assert answerer.video.grids(encoded.times).times == (1.0, 70.0, 72.0)
    assert answerer.model.arguments(encoded, encoded.tokens)["video_grid_thw"].tolist() == [[3, 4, 6]]
    assert VideoForm(0.0).grids((1.0, 2.0, 70.0)).times == (1.0, 2.0, 70.0)


def test_pairs_are_made_in_order_and_never_across_a_gap() -> None:
    form = VideoForm(1.0)
    assert form.pairs([0.0, 1.0, 2.0]) == [(0, 1), (2, 2)]
    assert form.pairs([0.0, 5.0, 5.5, 9.0]) == [(0, 0), (1, 2), (3, 3)]
    assert form.pairs([3.0, 3.0]) == [(0, 0), (1, 1)], "the same frame twice is not a pair in time"
    assert form.pairs([]) == []


def test_limits_hold_for_what_a_request_really_takes(plain: dict[str, QwenVL]) -> None:
    for form in ("images", "video"):
        answerer = dataclasses.replace(plain["qwen2_vl"], form=form, max_pixels=401408)  # type: ignore[arg-type]
        limits = answerer.limits()
        one, two = (
            answerer.encode(request("Why?", None, frames(*times, height=720, width=1280))).tokens
            for times in ((9000.0,), (9000.0, 9001.0))
        )
        assert limits.context_tokens == 32768
        assert two - one <= limits.tokens_per_frame < 1.1 * (two - one) + 10


def test_failures_of_some_requests_leave_the_others_alone(plain: dict[str, QwenVL]) -> None:
    answerer = plain["qwen2_vl"]
    bad = [
        request(" ", None, frames(0.0), "no_text"),
        request("What is <|image_pad|>?", None, frames(0.0), "markup"),
        request("Why?", ("yes", "<|im_end|>"), frames(0.0), "markup_option"),
        request("Why?", None, (), "no_frames"),
        request("Why?", None, frames(0.0, height=4, width=1200), "strip"),
    ]
    answers = {answer.question_id: answer for answer in answered(answerer, [bad[0], ASKED[0], *bad[1:], ASKED[1]])}
    assert answers["no_text"].status is Status.INVALID_QUESTION
    assert answers["markup"].status is Status.INVALID_QUESTION
    assert "<|image_pad|>" in answers["markup"].detail
    assert answers["markup_option"].status is Status.INVALID_QUESTION
    assert answers["no_frames"].status is Status.NO_FRAMES
    assert answers["strip"].status is Status.UNSUPPORTED
    assert all(not answers[one.question.id].text for one in bad)
    assert answers["a"].text == answered(answerer, ASKED[:1])[0].text
    assert answers["b"].text


def test_frames_of_several_sizes_are_images_but_no_video(plain: dict[str, QwenVL]) -> None:
    mixed = request("Why?", None, (*frames(0.0), *frames(1.0, height=160, width=90)))
    assert answered(plain["qwen2_vl"], [mixed])[0].status is Status.OK
    video = dataclasses.replace(plain["qwen2_vl"], form="video")
    (answer,) = answered(video, [mixed])
    assert answer.status is Status.UNSUPPORTED
    assert "answerer.form=images" in answer.detail
    with pytest.raises(FramesError, match="differ in size"):
        video.encode(mixed)


def test_too_long_a_prompt_is_known_before_the_model_is_called(tmp_path: Path, plain: dict[str, QwenVL]) -> None:
    small = tiny.write_qwen2_vl(tmp_path, context=150)
    checkpoint = dataclasses.replace(plain["qwen2_vl"].checkpoint, source=str(small))
    answerer = dataclasses.replace(plain["qwen2_vl"], checkpoint=checkpoint)
    (answer,) = answered(answerer, [request("Why?", None, frames(*map(float, range(20))))])
    assert answer.status is Status.CONTEXT_EXCEEDED
    assert "more than the 150" in answer.detail
    assert "selection.budget=" in answer.detail
    assert "answerer.max_pixels=" in answer.detail
    assert not answerer.is_loaded
    assert answered(answerer, [request("Why?", None, frames(0.0))])[0].status is Status.OK


def test_a_request_that_does_not_fit_the_memory_is_its_own_failure(
    plain: dict[str, QwenVL], monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer = dataclasses.replace(plain["qwen2_vl"])
    features = answerer.model.features

    def hungry(shown: Any) -> Any:
        if len(shown) > 3:
            torch.empty(2**52)  # more than any machine has: the allocator's own error
        return features(shown)

    monkeypatch.setattr(answerer.model, "features", hungry)
    large = request("Why?", None, frames(*map(float, range(5))), "large")
    answers = answered(answerer, [ASKED[0], large, ASKED[1]])
    assert [answer.status is Status.OUT_OF_MEMORY for answer in answers] == [False, True, False]
    assert "answerer.max_pixels=" in answers[1].detail
    assert "selection.budget=" in answers[1].detail
    assert answers[0].text == answered(plain["qwen2_vl"], ASKED[:1])[0].text


def test_prepared_frames_stay_within_their_memory_and_answers_are_the_same(
    plain: dict[str, QwenVL], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [request("Why?", None, frames(0.0, 1.0, 2.0, seed=seed)) for seed in range(12)]
    ours = dataclasses.replace(plain["qwen2_vl"])
    before = [answer.text for answer in answered(ours, asked, batch=8)]
    kind, alive, most = type(ours.processor), {}, 0
    prompt = kind.prompt

    def counted(self: Any, prepared: Any, *others: Any) -> Any:
        nonlocal most
        made = prompt(self, prepared, *others)
        alive[id(made)] = sum(frame.pixels.nbytes for frame in prepared)
        weakref.finalize(made, alive.pop, id(made))
        most = max(most, sum(alive.values()))
        return made

    monkeypatch.setattr(kind, "prompt", counted)
    size = sum(frame.pixels.nbytes for frame in ours.encode(asked[0]).frames)
    for limit, holds in ((4 * size + size // 2, 4), (1, 1)):
        most = 0
        ours.hold_at_most(limit)
        assert [answer.text for answer in answered(ours, asked, batch=8)] == before
        assert most <= holds * size
    most = 0
    ours.hold_at_most(100 * size)
    answered(ours, asked, batch=8)
    assert most > 4 * size


def test_another_family_is_named(tmp_path: Path, plain: dict[str, QwenVL]) -> None:
    other = tiny.write_llava_onevision(tmp_path)
    checkpoint = dataclasses.replace(plain["qwen2_vl"].checkpoint, source=str(other))
    answerer = dataclasses.replace(plain["qwen2_vl"], checkpoint=checkpoint)
    for call in (answerer.limits, lambda: answered(answerer, ASKED)):
        with pytest.raises(CheckpointError, match="model_type is llava_onevision"):
            call()


def test_the_identity_follows_what_decides_answers_and_not_what_decides_speed(plain: dict[str, QwenVL]) -> None:
    one = plain["qwen2_vl"]
    same = [
        dataclasses.replace(one, name="other"),
        dataclasses.replace(one, checkpoint=dataclasses.replace(one.checkpoint, device="auto", attention="eager")),
    ]
    other = [
        dataclasses.replace(one, video=VideoForm(2.0)),
        dataclasses.replace(one, form="video"),
        dataclasses.replace(one, images=FrameLabels("", "\n")),
        dataclasses.replace(one, max_pixels=12544),
        dataclasses.replace(one, max_new_tokens=9),
        dataclasses.replace(one, system="Be brief."),
        dataclasses.replace(one, prompt=dataclasses.replace(one.prompt, free="{question} Say it.")),
        dataclasses.replace(one, checkpoint=plain["qwen2_5_vl"].checkpoint),
    ]
    assert all(each.identity() == one.identity() for each in same)
    assert all(each.identity() != one.identity() for each in other)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("answerer.images.label={frame}", r"(?s)label='\{frame\}'.*\{time\}"),
        ("answerer.video.pair_within=-1", "pair_within"),
        ("answerer.max_pixels=100", "max_pixels"),
        ("answerer.frame_size=[50,60]", "frame_size"),
        ("answerer.form=film", "form"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_built(override: str, message: str) -> None:
    key, value = override.split("=", 1)
    with pytest.raises(ConfigError, match=message):
        configured(QwenVL, "qwen2_vl_7b", f"{key}='{value}'" if "{" in value else override)


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["images", "video"])
def test_a_gpu_in_float32_says_what_a_cpu_says(
    plain: dict[str, QwenVL], family: str, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_alike(monkeypatch)
    here = dataclasses.replace(plain[family], form=form)
    there = dataclasses.replace(here, checkpoint=dataclasses.replace(here.checkpoint, device="cuda:0", dtype="float32"))
    decided = Decisions(here.model.language)
    followed = Decisions(there.model.language, told=decided)
    expected = [answer.text for answer in answered(here, ASKED)]
    assert [answer.text for answer in answered(there, ASKED)] == expected
    followed.assert_close()
    half = dataclasses.replace(there, checkpoint=dataclasses.replace(there.checkpoint, dtype="bfloat16"))
    assert all(answer.status in (Status.OK, Status.UNPARSED) for answer in answered(half, ASKED))
