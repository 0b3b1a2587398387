"""LLaVA-OneVision on a tiny random checkpoint: its answers are noise, the way to them is the real one."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import answered, frames, request_of
from hydra import compose, initialize_config_dir
from tiny import write_llava_onevision
from wordings import wording

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.config import build, conf_dir
from pipeline.domain import Question, Status
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import FrameLabels
from pipeline.families.llava_onevision.answerer import LlavaOnevision
from pipeline.families.llava_onevision.processor import tower_of
from pipeline.families.loading.checkpoint import Checkpoint

pytestmark = pytest.mark.moving

FORMS = ("images", "video")
PROMPT = wording("letter_or_phrase")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llava_onevision(tmp_path_factory.mktemp("llava"))


def answerer(folder: Path, form: str = "images", **changes: Any) -> LlavaOnevision:
    checkpoint = Checkpoint(str(folder), None, "float32", "sdpa", "cpu")
    made = LlavaOnevision("llava", checkpoint, form, FrameLabels("{time:.1f}s: ", "\n"), "selected", PROMPT, 6)  # type: ignore[arg-type]
    return dataclasses.replace(made, **changes)


def fed(answerer: LlavaOnevision, asked: AnswerRequest) -> dict[str, Any]:
    """The arguments that the model's ``forward`` gets for the whole prompt."""
    prompt = answerer.encode(asked)
    return answerer.model.arguments(prompt, prompt.tokens)


class StockProcessor:
    """``LlavaOnevisionProcessor`` with the Pillow image processor and, for want of torchvision, no video processor."""

    def __new__(cls, folder: Path, tokenizer: Any) -> Any:
        from transformers import LlavaOnevisionProcessor
        from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
            LlavaOnevisionImageProcessorPil,
        )

        class Processor(LlavaOnevisionProcessor):  # type: ignore[misc]
            def check_argument_for_proper_class(self, name: str, value: Any) -> None:
                pass  # it would import torchvision to look at the video processor's class

        return Processor(
            image_processor=LlavaOnevisionImageProcessorPil.from_pretrained(folder),
            tokenizer=tokenizer,
            num_image_tokens=16,
            vision_feature_select_strategy="full",
        )


def test_images_are_what_the_stock_processor_makes(folder: Path) -> None:
    import torch
    from PIL import Image

    ours, asked = answerer(folder), request_of(3)
    stock = StockProcessor(folder, ours.processor.tokenizer)
    prompt = (
        "<|im_start|>user \n0.0s: <image>\n1.2s: <image>\n2.5s: <image>\nWhich colour?\nA. red\nB. blue\n"
        "Answer with the option's letter from the given choices directly.<|im_end|><|im_start|>assistant\n"
    )
    images = [Image.fromarray(frame.pixels) for frame in asked.frames]
    theirs = stock(text=[prompt], images=[images], return_tensors="pt")
    mine = fed(ours, asked)
    assert mine.keys() == theirs.keys() - {"attention_mask"}
    assert mine["input_ids"].tolist() == theirs["input_ids"].tolist()
    assert torch.equal(mine["pixel_values"], theirs["pixel_values"].float())
    with torch.inference_mode():
        # The sizes before scaling, which only stock inputs hold, matter for images of several patches alone.
        logits = ours.model.network(**mine).logits
        expected = ours.model.network(**{k: v.float() if k == "pixel_values" else v for k, v in theirs.items()}).logits
        tokens = ours.model.network.generate(**theirs, do_sample=False, max_new_tokens=6, repetition_penalty=1.0)
    assert torch.equal(logits, expected)
    assert answered(ours, [asked])[0].text == ours.processor.tokenizer.decode(
        tokens[0, theirs["input_ids"].shape[1] :], skip_special_tokens=True
    )


def test_a_video_is_what_the_stock_code_makes(folder: Path) -> None:
    import torch
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    ours, asked = answerer(folder, "video"), request_of(5)
    mine = fed(ours, asked)
    tokens = StockProcessor(folder, ours.processor.tokenizer).replace_video_token(
        {"pixel_values_videos": mine["pixel_values_videos"]}, 0
    )
    told = {
        "none": "",
        "selected": "The video lasts for 60.00 seconds, and 5 frames are sampled from it. These frames are located at "
        "0.00s,1.25s,2.50s,3.75s,5.00s.Please answer the following questions related to this video.\n",
    }
    for mode, sentence in told.items():
        timed = dataclasses.replace(ours, time_instruction=mode)
        prompt = (
            f"<|im_start|>user {tokens}\n{sentence}Which colour?\nAnswer the question using a single word or phrase."
        )
        free = timed.encode(dataclasses.replace(asked, question=Question("q", "clip.mp4", "Which colour?")))
        text = timed.processor.tokenizer.decode(free.input_ids)
        assert text == f"{prompt}<|im_end|><|im_start|>assistant\n"
        (answer,) = answered(timed, [asked])
        assert f"time_instruction={mode}" in answer.form
        assert ("not told" in answer.form) == (mode == "none")
    siglip = SiglipImageProcessorPil(size={"height": 56, "width": 56}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    pixels = siglip([frame.pixels for frame in asked.frames], resample=3, return_tensors="pt")["pixel_values"]
    assert torch.allclose(mine["pixel_values_videos"][0], pixels.float(), atol=1e-6)
    with torch.inference_mode():  # the model itself refuses a wrong number of placeholders
        assert ours.model.network(**mine).logits.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_frames_of_any_shape_are_scaled_as_the_stock_processor_does(folder: Path, tmp_path: Path, form: str) -> None:
    """Around an image stands its mean colour, which is another in each channel here."""
    from transformers.image_utils import SizeDict
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "preprocessor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"image_mean": [0.48, 0.45, 0.40]}
    path.write_text(json.dumps(settings), encoding="utf-8")
    processor, stock = answerer(copy, form).processor, LlavaOnevisionImageProcessorPil.from_pretrained(copy)
    for height, width in ((90, 160), (161, 89), (97, 97), (5, 8), (1, 1), (3, 90), (56, 56), (361, 640)):
        (frame,) = frames(0.0, height=height, width=width)
        wanted = frame.pixels.transpose(2, 0, 1)
        if form == "images":
            wanted = stock.pad_to_square(wanted, tuple(int(mean * 255) for mean in stock.image_mean))
        wanted = stock.resize(wanted, size=SizeDict(height=56, width=56), resample=stock.resample)
        assert np.array_equal(processor.prepare(frame.pixels).pixels, wanted.transpose(1, 2, 0))


def test_a_mean_that_is_no_colour_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "preprocessor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"image_mean": [0.5, 0.5, 127.5]}
    path.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"image_mean is .*127\.5"):
        answerer(copy).processor  # noqa: B018


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_answers_as_its_requests_do_alone(folder: Path, form: str) -> None:
    ours = answerer(folder, form)
    requests = [
        request_of(3),
        request_of(1),
        request_of(3, "Why?", None),
        request_of(2, "Which colour is shown first?"),
    ]
    together = answered(ours, requests)
    alone = [answered(ours, [asked])[0] for asked in requests]
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.cost.prompt_tokens for a in together] == [a.cost.prompt_tokens for a in alone]
    assert len({a.text for a in together}) == 4  # what the model sees matters
    assert [len(a.frame_times) for a in together] == [3, 1, 3, 2]


def test_one_frame_is_one_patch_as_among_others(folder: Path) -> None:
    ours = answerer(folder)
    ids = [(ours.encode(request_of(n)).input_ids == tower_of(ours.checkpoint).image_token_id).sum() for n in (1, 2, 5)]
    assert ids == [17, 34, 85]
    (answer,) = answered(ours, [request_of(1)])
    assert answer.cost.output_tokens > 0


@pytest.mark.parametrize(("form", "pictures"), [("images", 17), ("video", 4)])
def test_limits_say_what_a_frame_costs(folder: Path, form: str, pictures: int) -> None:
    ours = answerer(folder, form)
    limits = ours.limits()
    lengths = [ours.encode(request_of(n)).tokens for n in (2, 12)]
    assert pictures <= (lengths[1] - lengths[0]) / 10 <= limits.tokens_per_frame
    assert limits.context_tokens == 32768
    assert isinstance(ours, Answerer)


@pytest.mark.parametrize("form", FORMS)
def test_too_many_frames_are_refused_before_the_call(tmp_path: Path, form: str) -> None:
    ours = answerer(write_llava_onevision(tmp_path / "short", context=160), form)
    answers = answered(ours, [request_of(40), request_of(1)])
    assert answers[0].status is Status.CONTEXT_EXCEEDED
    assert answers[1].cost.output_tokens > 0
    fitting = int(re.search(r"selection\.budget=(\d+)", answers[0].detail)[1])  # type: ignore[index]
    assert answered(ours, [request_of(fitting)])[0].status is not Status.CONTEXT_EXCEEDED
    assert answered(ours, [request_of(fitting + 1)])[0].status is Status.CONTEXT_EXCEEDED
    assert ("answerer.form=video" in answers[0].detail) == (form == "images")
    (long,) = answered(ours, [request_of(1, "why " * 200)])
    assert (long.status, "shorter question" in long.detail) == (Status.CONTEXT_EXCEEDED, True)


@pytest.mark.parametrize(
    ("text", "options"),
    [("  ", None), ("What is <image>?", None), ("Is <video> odd?", None), ("Which?", ("red<|im_end|>", "blue"))],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_question_with_markup_or_without_text_is_refused(
    folder: Path, form: str, text: str, options: tuple[str, ...] | None
) -> None:
    bad, good = answered(answerer(folder, form), [request_of(2, text, options), request_of(3)])
    assert (bad.question_id, bad.status, bad.text) == ("q2", Status.INVALID_QUESTION, "")
    assert good.cost.output_tokens > 0
    assert bad.detail


def test_out_of_memory_is_the_failure_of_the_request_that_is_too_large(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    ours = answerer(folder)
    requests = [request_of(2), request_of(3), request_of(9), request_of(1)]
    expected = [a.text for a in answered(ours, requests)]
    forward = ours.model.network.model.forward

    def small_memory(**inputs: Any) -> Any:
        if len(inputs["pixel_values"]) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(**inputs)

    monkeypatch.setattr(ours.model.network.model, "forward", small_memory)
    answers = answered(ours, requests)
    assert [a.status is Status.OUT_OF_MEMORY for a in answers] == [False, False, True, False]
    assert [a.text for a in answers] == [*expected[:2], "", expected[3]]
    assert "selection.budget=4" in answers[2].detail
    assert "execution.answer_batch=1" in answers[2].detail


def test_identity_changes_with_what_decides_the_answers(folder: Path, tmp_path: Path) -> None:
    ours = answerer(folder)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "chat_template.json").write_text((other / "chat_template.json").read_text().replace("assistant", "helper"))
    same = dataclasses.replace(ours, checkpoint=dataclasses.replace(ours.checkpoint, device="auto", attention="eager"))
    assert json.dumps(ours.identity()) == json.dumps(same.identity())
    changed = [
        answerer(folder, "video"),
        answerer(folder, max_new_tokens=7),
        answerer(folder, prompt=dataclasses.replace(PROMPT, free="Say: {question}")),
        answerer(folder, images=FrameLabels("", "\n")),
        answerer(other),
    ]
    assert len({json.dumps(a.identity()) for a in (ours, *changed)}) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llava", "architectures": ["LlavaQwenForCausalLM"]}, "LlavaQwenForCausalLM"),
        ({"model_type": "qwen2_vl"}, "qwen2_vl"),
        ({"vision_feature_select_strategy": "default"}, "selects 'default' features"),
    ],
)
def test_another_family_is_refused(folder: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    config = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        answerer(tmp_path).limits()


def test_a_folder_that_does_not_fit_together_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    settings = broken / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace('"height": 56', '"height": 64'))
    with pytest.raises(CheckpointError, match="56 x 56"):
        answered(answerer(broken), [request_of(1)])
    settings.unlink()
    with pytest.raises(CheckpointError, match="image processor"):
        answered(answerer(broken), [request_of(1)])
    shutil.copy(folder / "preprocessor_config.json", settings)
    template = json.loads((broken / "chat_template.json").read_text())["chat_template"]
    (broken / "chat_template.json").write_text(json.dumps({"chat_template": template.replace("<video>", "")}))
    with pytest.raises(CheckpointError, match="<video> 0 times for 1 pictures"):
        answered(answerer(broken, "video"), [request_of(1)])


def test_times_are_told_or_not(folder: Path) -> None:
    timed, untimed = answerer(folder), answerer(folder, images=FrameLabels("", " "))
    assert "'12.5s: '" in timed.limits().time_told
    assert "not told" in untimed.limits().time_told
    assert "not told" in answerer(folder, "video", time_instruction="none").limits().time_told
    words = timed.processor.tokenizer.decode(untimed.encode(request_of(2)).input_ids).replace("<image>", "")
    assert words.startswith("<|im_start|>user \n  Which colour?")
    assert [answered(timed, [request_of(2)])[0].form, answered(untimed, [request_of(2)])[0].form] == [
        "images of 56 x 56 pixels; time: text before each image: '12.5s: '",
        "images of 56 x 56 pixels; time: not told: images in their order",
    ]
    for label in ("{t}", "{", "{time:x}", "{0}"):
        with pytest.raises(ConfigError, match=r"answerer\.images\.label"):
            FrameLabels(label, "")


@pytest.mark.parametrize("name", ["llava_onevision_0_5b", "llava_onevision_7b"])
def test_the_shipped_settings_build(name: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        made = build(compose(f"answerer/{name}").answerer, "answerer")
    assert (made.name, made.checkpoint.source.startswith("llava-hf/")) == (name, True)
    assert made.prompt == PROMPT


def test_construction_imports_no_torch() -> None:
    answerer = "pipeline.families.llava_onevision.answerer"
    code = f"import sys, {answerer}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
