"""Qwen3-VL, dense and with experts: what its prompts say, and that stock transformers gives the same."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import tiny_qwen3_vl
import torch
from asking import answered, configured, frames, request
from safetensors.torch import load_file

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.domain import Status
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import FrameLabels
from pipeline.families.qwen.answerer import Qwen3VL
from pipeline.families.qwen.processor import TimedVideoForm

pytestmark = pytest.mark.moving

SOURCES = {
    "qwen3_vl_2b": "Qwen/Qwen3-VL-2B-Instruct",
    "qwen3_vl_4b": "Qwen/Qwen3-VL-4B-Instruct",
    "qwen3_vl_8b": "Qwen/Qwen3-VL-8B-Instruct",
    "qwen3_vl_32b": "Qwen/Qwen3-VL-32B-Instruct",
    "qwen3_vl_30b_a3b": "Qwen/Qwen3-VL-30B-A3B-Instruct",
}
FAMILIES = ("qwen3_vl", "qwen3_vl_moe")
FORMS = ("images", "video")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: getattr(tiny_qwen3_vl, f"write_{name}")(tmp_path_factory.mktemp(name)) for name in FAMILIES}


@pytest.fixture(scope="module")
def plain(folders: dict[str, Path]) -> dict[str, Qwen3VL]:
    """The YAML's answerer on a tiny checkpoint of each kind."""
    settings = ("answerer.checkpoint.device=cpu", "answerer.max_pixels=8192", "answerer.max_new_tokens=8")
    return {
        name: configured(Qwen3VL, "qwen3_vl_8b", f"answerer.checkpoint.source={folder}", *settings)
        for name, folder in folders.items()
    }


ASKED = [
    request("What colour is the square?", frames(0.0, 4.0), ("red", "blue")),
    request("Why?", frames(1.0, 2.5, 70.0, seed=1)),
    request("What appears after the circle?", frames(3.0, seed=2), ("square", "circle", "frame")),
]


def words(answerer: Qwen3VL, asked: AnswerRequest) -> str:
    """The prompt as the model reads it."""
    text: str = answerer.processor.tokenizer.decode(answerer.encode(asked).input_ids.tolist())
    return text


def given(answerer: Qwen3VL, asked: AnswerRequest) -> dict[str, torch.Tensor]:
    """The arguments of the network's forward."""
    prompt = answerer.encode(asked)
    return answerer.model.arguments(prompt, prompt.tokens)


def turn(prompt: str) -> str:
    return prompt.split("<|im_start|>user\n")[1].split("<|im_end|>", maxsplit=1)[0]


def grid(time: str, pad: str = "<|video_pad|>", tokens: int = 6) -> str:
    return f"<{time} seconds><|vision_start|>{pad * tokens}<|vision_end|>"


@pytest.mark.parametrize("name", SOURCES)
def test_every_yaml_names_its_checkpoint_and_tells_the_true_times(name: str) -> None:
    answerer = configured(Qwen3VL, name)
    assert isinstance(answerer, Answerer)
    assert (answerer.name, answerer.checkpoint.source) == (name, SOURCES[name])
    assert (answerer.form, answerer.video) == ("video", TimedVideoForm(0.0, "strip"))


# --- the prompt -------------------------------------------------------------------------------------------------------


def test_each_frame_of_a_video_has_its_second_in_text_before_it(plain: dict[str, Qwen3VL]) -> None:
    prompt = words(plain["qwen3_vl"], ASKED[1])
    assert turn(prompt) == grid("1.0") + grid("2.5") + grid("70.0") + "Why?"


def test_frames_close_in_time_share_a_grid_and_distant_ones_do_not(plain: dict[str, Qwen3VL]) -> None:
    answerer = dataclasses.replace(plain["qwen3_vl"], video=TimedVideoForm(2.0, "strip"))
    asked = request("Why?", frames(1.0, 2.0, 70.0, 71.5, 75.0))
    assert turn(words(answerer, asked)) == grid("1.5") + grid("70.8") + grid("75.0") + "Why?"
    # A patch has 3 colours x 2 frames x 16 x 16 pixels.
    by_pair, by_frame = (
        given(one, asked)["pixel_values_videos"].view(-1, 24, 3, 2, 256) for one in (answerer, plain["qwen3_vl"])
    )
    assert torch.equal(by_pair[0, :, :, 0], by_frame[0, :, :, 0])
    assert torch.equal(by_pair[0, :, :, 1], by_frame[1, :, :, 1])
    assert torch.equal(by_pair[2], by_frame[4])  # a frame by itself fills both halves
    assert torch.equal(by_frame[:, :, :, 0], by_frame[:, :, :, 1])


def test_the_prompt_is_kept_with_the_frames_of_each_grid(plain: dict[str, Qwen3VL]) -> None:
    answerer = dataclasses.replace(plain["qwen3_vl"], video=TimedVideoForm(2.0, "strip"))
    said = answerer.processor.sent(answerer.encode(request("Why?", frames(1.0, 2.0, 70.0))))
    around = "<{}><|vision_start|>{}<|vision_end|>".format
    first, last = around("1.5 seconds", "<frames 1 to 2 at 1 to 2 s>"), around("70.0 seconds", "<frame 3 at 70 s>")
    assert f"{first}{last}Why?" in said


def test_images_have_the_same_words_as_a_video(plain: dict[str, Qwen3VL]) -> None:
    images, video = (words(dataclasses.replace(plain["qwen3_vl"], form=form), ASKED[1]) for form in FORMS)  # type: ignore[arg-type]
    assert images == video.replace("<|video_pad|>", "<|image_pad|>")
    assert grid("2.5", "<|image_pad|>") in images


@pytest.mark.parametrize("times", [(1.0, 2.0, 70.0, 71.5, 75.0), (3.0,), (0.0, 0.04, 60.0, 3600.0)])
def test_kept_marks_are_around_what_the_stock_processor_writes(plain: dict[str, Qwen3VL], times: Any) -> None:
    """Its own code for a video's text, which needs no torchvision; every frame given twice, so that none is blended."""
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

    stock = SimpleNamespace(
        video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2),
        video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
        _calculate_timestamps=partial(Qwen3VLProcessor._calculate_timestamps, None),
    )
    shown = frames(*times)
    film = SimpleNamespace(fps=25.0, frames_indices=[frame.index for frame in shown for _ in range(2)])
    inputs = {"video_grid_thw": torch.tensor([[len(times), 4, 6]]), "video_metadata": [film]}
    expected = Qwen3VLProcessor.replace_video_token(stock, inputs, 0)
    asked = request("Why?", shown)
    assert turn(words(plain["qwen3_vl"], asked)) == f"{expected}Why?"
    kept = dataclasses.replace(plain["qwen3_vl"], video=TimedVideoForm(0.0, "keep"))
    assert turn(words(kept, asked)) == f"<|vision_start|>{expected}<|vision_end|>Why?"
    assert answered(kept, [asked])[0].cost.prompt_tokens == len(kept.encode(asked).input_ids)


def test_pixels_are_the_stock_pil_processors(plain: dict[str, Qwen3VL]) -> None:
    from PIL import Image
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    shown = frames(0.0, 7.5, height=200, width=120)
    ours = given(dataclasses.replace(plain["qwen3_vl"], form="images"), request("Why?", shown))
    half = [0.5, 0.5, 0.5]
    stock = Qwen2VLImageProcessorPil(
        patch_size=16, image_mean=half, image_std=half, size={"shortest_edge": 4096, "longest_edge": 8192}
    )
    theirs = stock(images=[Image.fromarray(frame.pixels) for frame in shown], return_tensors="pt")
    assert torch.equal(ours["image_grid_thw"], theirs["image_grid_thw"])
    assert torch.equal(ours["pixel_values"], theirs["pixel_values"])


# --- the model --------------------------------------------------------------------------------------------------------


def test_experts_of_the_hub_are_loaded_the_right_way_round(plain: dict[str, Qwen3VL], folders: dict[str, Path]) -> None:
    loaded = dict(plain["qwen3_vl_moe"].model.network.named_parameters())
    stored = load_file(folders["qwen3_vl_moe"] / "model.safetensors")
    experts = [name for name in stored if ".mlp.experts." in name]
    assert len(experts) == 4
    for name in experts:
        assert torch.equal(loaded[name], stored[name].mT)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", FORMS)
def test_an_answer_is_the_same_alone_and_in_any_batch(plain: dict[str, Qwen3VL], family: str, form: Any) -> None:
    answerer = dataclasses.replace(plain[family], form=form)
    together = answered(answerer, ASKED)
    for asked, answer in zip(ASKED, together, strict=True):
        (alone,) = answered(answerer, [asked])
        assert (alone.text, alone.status) == (answer.text, answer.status)
        assert answer.frame_times == tuple(frame.time for frame in asked.frames)
        assert answer.cost.prompt_tokens == answerer.encode(asked).tokens
        assert answer.form.startswith(f"{form} of 64 x 96 pixels")
    assert [answer.text for answer in answered(answerer, ASKED[::-1])] == [answer.text for answer in together[::-1]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pair_within", [0.0, 2.0])
def test_answers_are_those_of_stock_generate(plain: dict[str, Qwen3VL], family: str, pair_within: float) -> None:
    """Which is given the video as one, as the stock processor would."""
    answerer = dataclasses.replace(plain[family], video=TimedVideoForm(pair_within, "strip"))
    inputs = given(answerer, ASKED[1])
    grids, ids = inputs["video_grid_thw"], inputs["input_ids"]
    model, tokenizer = answerer.model.network, answerer.processor.tokenizer
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=inputs["mm_token_type_ids"],
            pixel_values_videos=inputs["pixel_values_videos"],
            video_grid_thw=torch.tensor([[len(grids), *grids[0, 1:].tolist()]]),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    expected = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    assert answered(answerer, [ASKED[1]])[0].text.strip() == expected.strip()


@pytest.mark.parametrize("form", FORMS)
def test_pictures_and_their_times_reach_the_model(plain: dict[str, Qwen3VL], form: Any) -> None:
    answerer = dataclasses.replace(plain["qwen3_vl"], form=form)

    def says(*times: float, seed: int = 0) -> str:
        return answered(answerer, [request("Why?", frames(*times, seed=seed))])[0].text

    assert len({says(0.0, 1.0, seed=seed) for seed in range(3)}) > 1
    assert len({says(0.0, time) for time in (1.0, 50.0, 1000.0)}) > 1


# --- limits and failures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_limits_hold_for_what_a_request_really_takes(plain: dict[str, Qwen3VL], form: Any) -> None:
    answerer = dataclasses.replace(plain["qwen3_vl"], form=form, max_pixels=524288)
    limits = answerer.limits()
    one, two = (
        answerer.encode(request("Why?", frames(*times, height=720, width=1280))).tokens
        for times in ((9000.0,), (9000.0, 9001.0))
    )
    assert limits.context_tokens == 262144
    assert two - one <= limits.tokens_per_frame < 1.1 * (two - one) + 10


def test_frames_of_several_sizes_are_images_but_no_video(plain: dict[str, Qwen3VL]) -> None:
    mixed = request("Why?", (*frames(0.0), *frames(1.0, height=160, width=90)))
    assert answered(dataclasses.replace(plain["qwen3_vl"], form="images"), [mixed])[0].cost.output_tokens > 0
    (answer,) = answered(plain["qwen3_vl"], [mixed])
    assert answer.status is Status.UNSUPPORTED
    assert "answerer.frame_size=[288,512]" in answer.detail  # which this family can take
    one_shape = dataclasses.replace(plain["qwen3_vl"], frame_size=(64, 64))
    assert answered(one_shape, [mixed])[0].cost.output_tokens > 0


def test_another_family_is_named(tmp_path: Path, plain: dict[str, Qwen3VL]) -> None:
    other = tiny.write_qwen2_5_vl(tmp_path)
    checkpoint = dataclasses.replace(plain["qwen3_vl"].checkpoint, source=str(other))
    answerer = dataclasses.replace(plain["qwen3_vl"], checkpoint=checkpoint)
    for call in (answerer.limits, lambda: answered(answerer, ASKED)):
        with pytest.raises(CheckpointError, match=r"not Qwen3-VL or .*model_type is qwen2_5_vl"):
            call()


def test_image_settings_of_another_model_are_refused(tmp_path: Path, plain: dict[str, Qwen3VL]) -> None:
    folder = tiny_qwen3_vl.write_qwen3_vl(tmp_path)
    file = folder / "preprocessor_config.json"
    answerer = dataclasses.replace(
        plain["qwen3_vl"], checkpoint=dataclasses.replace(plain["qwen3_vl"].checkpoint, source=str(folder))
    )
    settings = file.read_text()
    file.write_text(settings.replace('"patch_size": 16', '"patch_size": 14'))
    with pytest.raises(CheckpointError, match=r"\(14, 2, 2\).*\(16, 2, 2\)"):
        answered(answerer, ASKED)
    file.write_text(settings.replace("0.5", "0.48"))
    with pytest.raises(CheckpointError, match="image_mean"):
        answered(answerer, ASKED)


def test_the_identity_follows_what_decides_answers_and_not_what_decides_speed(plain: dict[str, Qwen3VL]) -> None:
    one = plain["qwen3_vl"]
    same = [
        dataclasses.replace(one, name="other"),
        dataclasses.replace(one, checkpoint=dataclasses.replace(one.checkpoint, device="auto", attention="eager")),
    ]
    other = [
        dataclasses.replace(one, images=FrameLabels("", "\n")),
        dataclasses.replace(one, form="images"),
        dataclasses.replace(one, video=TimedVideoForm(2.0, "strip")),
        dataclasses.replace(one, video=TimedVideoForm(0.0, "keep")),
        dataclasses.replace(one, max_pixels=12288),
        dataclasses.replace(one, system="Be brief."),
        dataclasses.replace(one, checkpoint=plain["qwen3_vl_moe"].checkpoint),
    ]
    assert all(each.identity() == one.identity() for each in same)
    assert all(each.identity() != one.identity() for each in other)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("answerer.video.pair_within=-1", "pair_within"),
        ("answerer.video.wrapper=both", "wrapper"),
        ("answerer.frame_size=[252,448]", r"\[256,448\]"),
        ("answerer.max_pixels=1000", "max_pixels"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_built(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(Qwen3VL, "qwen3_vl_8b", override)
