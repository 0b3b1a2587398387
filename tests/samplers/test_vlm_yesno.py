"""FRAG on tiny checkpoints: the probability of yes as the stock model gives it, with each frame looked at once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from embedding_samplers import READER, Counted, ask, built, counted, pictures, write_folder
from PIL import Image
from tiny import write_llava_onevision, write_qwen2_5_vl, write_qwen2_vl
from tiny_glm import write_glm46v
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pipeline.domain import Status
from pipeline.errors import CheckpointError, ConfigError, IncompatibleLibraryError
from pipeline.samplers import Sampler

pytestmark = pytest.mark.moving

SECONDS = 5
TEXTS = ("What colour is the square?", "which frames show the circle that appears after the yellow one?")


FRAG = (
    "Question: {question}\n"
    "Does the information within the image provide the necessary details to accurately answer the given question?\n"
    "A. yes\nB. no\nAnswer with the option's letter from the given choices directly."
)


@pytest.fixture(
    scope="module",
    params=[write_qwen2_5_vl, write_qwen2_vl, write_llava_onevision, write_glm46v],
    ids=["qwen2_5_vl", "qwen2_vl", "llava_onevision", "glm46v"],
)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = request.param(tmp_path_factory.mktemp("checkpoint"), seed=5)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    with counted(tmp_path_factory.mktemp("video") / "clip.mp4", seconds=SECONDS, size=112) as source:
        yield source


@pytest.fixture
def source(clip: Counted) -> Counted:
    return Counted(clip.source)


def stock(folder: Path, frame: Any, question: str) -> torch.Tensor:
    """The logits of the first token of an answer to FRAG's prompt, by the whole prompt at once."""
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = INPUTS[checkpoint_type(folder)]
    with torch.inference_mode():
        return model(**inputs(folder, tokenizer, frame, FRAG.replace("{question}", question))).logits[0, -1]


def checkpoint_type(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text())["model_type"])


def qwen_inputs(folder: Path, tokenizer: Any, frame: Any, words: str) -> dict[str, Any]:
    pixels = Qwen2VLImageProcessorPil.from_pretrained(folder)(images=frame, return_tensors="pt")
    pads = "<|image_pad|>" * (int(pixels["image_grid_thw"].prod()) // 4)
    prompt = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>{words}<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    kinds = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
    return {"input_ids": ids, "mm_token_type_ids": kinds, **pixels}


def llava_inputs(folder: Path, tokenizer: Any, frame: Any, words: str) -> dict[str, Any]:
    # Two images, so that none is cut into tiles; then one of them.
    made = LlavaOnevisionImageProcessorPil.from_pretrained(folder)(images=[[frame, frame]], return_tensors="pt")
    prompt = f"<|im_start|>user {'<image>' * (4 * 4 + 1)}\n{words}<|im_end|><|im_start|>assistant\n"
    return {
        "input_ids": tokenizer(prompt, return_tensors="pt").input_ids,
        "pixel_values": made["pixel_values"][:1].float(),
        "image_sizes": made["image_sizes"][:1],
        "batch_num_images": made["batch_num_images"],
    }


def glm_inputs(folder: Path, tokenizer: Any, frame: Any, words: str) -> dict[str, Any]:
    size = {"shortest_edge": 2 * 784, "longest_edge": 2 * 200704}  # of the sampler; the type counts each image twice
    pixels = Glm46VImageProcessorPil.from_pretrained(folder)(images=frame, size=size, return_tensors="pt")
    shown = f"<|begin_of_image|>{'<|image|>' * (int(pixels['image_grid_thw'].prod()) // 4)}<|end_of_image|>"
    prompt = f"[gMASK]<sop><|user|>\n{shown}{words}/nothink<|assistant|>\n<think></think>\n"
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    kinds = (ids == tokenizer.convert_tokens_to_ids("<|image|>")).int()
    return {"input_ids": ids, "mm_token_type_ids": kinds, **pixels}


INPUTS = {
    "qwen2_vl": qwen_inputs,
    "qwen2_5_vl": qwen_inputs,
    "llava_onevision": llava_inputs,
    "glm46v": glm_inputs,
}


@pytest.mark.parametrize("at_once", [pytest.param(1, marks=pytest.mark.long), 3])
def test_scores_are_the_stock_models_probabilities(
    checkpoint: Path, source: Counted, tmp_path: Path, at_once: int
) -> None:
    found = built("vlm_yesno", checkpoint, tmp_path, f"frames_at_once={at_once}").score(
        source.video, source, ask(*TEXTS)
    )
    two = built("vlm_yesno", checkpoint, tmp_path, f"frames_at_once={at_once}", "among=replies")
    against_no = two.score(source.video, source, ask(*TEXTS))
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    yes, no = tokenizer.convert_tokens_to_ids(["A", "B"])
    frames = [frame.pixels for frame in pictures(source, SECONDS)]
    for one, other, text in zip(found, against_no, TEXTS, strict=True):
        logits = [stock(checkpoint, frame, text) for frame in frames]
        assert one.scores == pytest.approx([float(row.softmax(-1)[yes]) for row in logits], rel=1e-4)
        assert other.scores == pytest.approx([float(row[[yes, no]].softmax(-1)[0]) for row in logits], rel=1e-4)
        assert one.times == tuple(float(second) for second in range(SECONDS))
        assert one.named_above is None
        assert len(set(one.scores)) == SECONDS


def test_wide_frames_are_shown_as_the_stock_model_shows_them(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames", source, [0.0, 1.0])
    for path in folder.iterdir():
        Image.open(path).crop((0, 0, 112, 60)).save(path)
    with READER.open(str(folder)) as wide:
        (found,) = built("vlm_yesno", checkpoint, tmp_path).score(wide.video, wide, ask(TEXTS[0]))
        frames = pictures(wide, 2)
    assert frames[0].pixels.shape == (60, 112, 3)
    yes = AutoTokenizer.from_pretrained(checkpoint).convert_tokens_to_ids("A")
    expected = [float(stock(checkpoint, frame.pixels, TEXTS[0]).softmax(-1)[yes]) for frame in frames]
    assert found.scores == pytest.approx(expected, rel=1e-4)


def test_half_precision_scores_alike(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    full, half = (
        built("vlm_yesno", checkpoint, tmp_path, "among=replies", f"checkpoint.dtype={dtype}")
        .score(source.video, source, ask(TEXTS[0]))[0]
        .scores
        for dtype in ("float32", "bfloat16")
    )
    assert half == pytest.approx(full, abs=0.1)
    assert half != full


def test_a_frame_is_looked_at_once_for_all_questions(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    sampler = built("vlm_yesno", checkpoint, tmp_path, "frames_at_once=2")
    assert isinstance(sampler, Sampler)
    looked: list[int] = []
    model = sampler._model.model.network.model
    tower = model.vision_tower if hasattr(model, "vision_tower") else model.visual
    shape = sampler._model.prepare(next(iter(source.source.frames_at([0.0]))).pixels).shape
    rows = 1 if hasattr(model, "vision_tower") else shape.patches
    tower.register_forward_hook(lambda *call: looked.append(len(call[1][0]) // rows))
    sampler.score(source.video, source, ask(*TEXTS, "where?"))
    assert looked == [2, 2, 1]
    assert source.asked == SECONDS


def test_a_long_video_has_its_candidates_spread_evenly(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    few = built("vlm_yesno", checkpoint, tmp_path, "max_frames=2").score(source.video, source, ask("where?"))[0]
    assert few.times == (0.0, 2.5)
    every = built("vlm_yesno", checkpoint, tmp_path, "max_frames=null", "fps=2.0")
    assert len(every.score(source.video, source, ask("where?"))[0].times) == 2 * SECONDS


def test_candidates_are_spread_over_what_is_there_of_the_video(
    checkpoint: Path, source: Counted, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "frames", source, [0.0, 1.0, 2.0, 3.0], first=96)
    with READER.open(str(folder)) as late:
        one = built("vlm_yesno", checkpoint, tmp_path, "max_frames=2").score(late.video, late, ask("where?"))[0]
    assert one.times == (96.0, 98.0)


def test_options_are_told_if_so_configured(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    question = ask("where?", options=("here", "there"))
    plain = built("vlm_yesno", checkpoint, tmp_path)
    told = built("vlm_yesno", checkpoint, tmp_path, "question_form=question_and_options")
    assert told.query(question[0]) == "where?\nA. here\nB. there"
    assert plain.query(question[0]) == "where?"
    scores = [one.score(source.video, source, question)[0].scores for one in (plain, told)]
    assert scores[0] != scores[1]


def test_questions_that_cannot_be_asked_keep_their_place(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    turn_end = "<|user|>" if checkpoint_type(checkpoint) == "glm46v" else "<|im_end|>"
    found = built("vlm_yesno", checkpoint, tmp_path).score(source.video, source, ask("", "where?", f"a {turn_end}"))
    assert [one.status for one in found] == [Status.INVALID_QUESTION, Status.OK, Status.INVALID_QUESTION]


def test_out_of_memory_is_a_status_with_its_override(
    checkpoint: Path, source: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = built("vlm_yesno", checkpoint, tmp_path, "frames_at_once=8")

    def too_large(*call: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patched:
        patched.setattr(sampler._model, "probabilities", too_large)
        found = sampler.score(source.video, source, ask("where?"))[0]
    assert found.status is Status.OUT_OF_MEMORY
    assert "sampler.frames_at_once=4" in found.detail
    # Pixels are the remedy of those families alone whose frames can be smaller.
    assert ("sampler.max_pixels=100352" in found.detail) == ("llava" not in checkpoint_type(checkpoint))
    assert sampler.score(source.video, source, ask("where?"))[0].status is Status.OK


def test_no_score_comes_of_a_question_that_was_read_without_its_frame(
    checkpoint: Path, source: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transformers that knows the cache by another name ignores ours, and each question is read alone."""
    sampler = built("vlm_yesno", checkpoint, tmp_path)
    decoder = type(sampler._model.model.network.get_decoder())
    forward = decoder.forward

    def renamed(self: Any, inputs_embeds: Any, position_ids: Any, memory: Any = None, **ignored: Any) -> Any:
        return forward(self, inputs_embeds=inputs_embeds, position_ids=position_ids)

    monkeypatch.setattr(decoder, "forward", renamed)
    with pytest.raises(IncompatibleLibraryError, match="no parameter named cache"):
        sampler.score(source.video, source, ask("where?"))


def test_what_decides_the_scores_is_identity(checkpoint: Path, tmp_path: Path) -> None:
    here = built("vlm_yesno", checkpoint, tmp_path).identity()
    assert built("vlm_yesno", checkpoint, tmp_path, "frames_at_once=1").identity() == here
    for change in ("prompt.yes_reply=C", "fps=2.0", "max_frames=7", "max_pixels=100000", "among=replies"):
        assert built("vlm_yesno", checkpoint, tmp_path, change).identity() != here


def test_a_closed_sampler_opens_again(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    sampler = built("vlm_yesno", checkpoint, tmp_path)
    before = sampler.score(source.video, source, ask("where?"))[0]
    sampler.close()
    assert sampler.score(source.video, source, ask("where?"))[0].scores == before.scores


def test_a_reply_of_several_tokens_is_refused(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    sampler = built("vlm_yesno", checkpoint, tmp_path, "prompt.yes_reply=extraordinarily")
    with pytest.raises(ConfigError, match=r"sampler\.prompt\.yes_reply"):
        sampler.score(source.video, source, ask("where?"))


def test_another_family_is_named(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "internvl"}))
    with pytest.raises(CheckpointError, match=r"LLaVA-OneVision .*: its model_type is internvl"):
        built("vlm_yesno", folder, tmp_path).score(source.video, source, ask("where?"))


def test_frames_smaller_than_the_model_has_are_refused(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sampler\.max_pixels=\d+") as refused:
        built("vlm_yesno", checkpoint, tmp_path, "max_pixels=100").score(source.video, source, ask("where?"))
    (remedy,) = re.findall(r"sampler\.(max_pixels=\d+)", str(refused.value))
    allowed = built("vlm_yesno", checkpoint, tmp_path, remedy).score(source.video, source, ask("where?"))
    assert allowed[0].status is Status.OK


def test_a_placeholder_of_the_family_in_a_question_is_refused(
    checkpoint: Path, source: Counted, tmp_path: Path
) -> None:
    sampler = built("vlm_yesno", checkpoint, tmp_path)
    placeholders = [mark for mark in sampler._model.markup if "image" in mark or "video" in mark]
    assert len(placeholders) >= 2
    for placeholder in placeholders:
        found = sampler.score(source.video, source, ask(f"is {placeholder} odd?"))
        assert found[0].status is Status.INVALID_QUESTION


@pytest.mark.parametrize("wrong", ["frames_at_once=0", "max_frames=0", "prompt.words='Does it help?'"])
def test_settings_that_cannot_be_are_refused_with_their_override(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=rf"sampler\.{wrong.partition('=')[0]}"):
        built("vlm_yesno", tmp_path, tmp_path, wrong)
