"""FRAG on tiny checkpoints: the probability of yes as the stock model gives it, with each frame looked at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from embedding_samplers import READER, Counted, ask, built, counted, pictures, write_folder
from tiny import write_llava_onevision, write_qwen2_5_vl, write_qwen2_vl
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pipeline.domain import Status
from pipeline.errors import CheckpointError, ConfigError
from pipeline.samplers import Sampler

SECONDS = 5
TEXTS = ("What colour is the square?", "which frames show the circle that appears after the yellow one?")


@pytest.fixture(scope="module", params=[write_qwen2_5_vl, write_qwen2_vl], ids=["qwen2_5_vl", "qwen2_vl"])
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
    pixels = Qwen2VLImageProcessorPil.from_pretrained(folder)(images=frame, return_tensors="pt")
    pads = "<|image_pad|>" * (int(pixels["image_grid_thw"].prod()) // 4)
    prompt = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>Question: {question}\n"
        "Does the information within the image provide the necessary details to accurately answer the given question?\n"
        "A. yes\nB. no\nAnswer with the option's letter from the given choices directly."
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    kinds = (ids == model.config.image_token_id).int()
    with torch.inference_mode():
        return model(ids, mm_token_type_ids=kinds, **pixels).logits[0, -1]


@pytest.mark.parametrize("at_once", [1, 3])
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


def test_a_frame_is_looked_at_once_for_all_questions(checkpoint: Path, source: Counted, tmp_path: Path) -> None:
    sampler = built("vlm_yesno", checkpoint, tmp_path, "frames_at_once=2")
    assert isinstance(sampler, Sampler)
    looked: list[int] = []
    sampler._model._model.model.visual.register_forward_hook(
        lambda *call: looked.append(len(call[1][0]) // 64)  # 112 x 112 pixels: 8 x 8 patches
    )
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
    found = built("vlm_yesno", checkpoint, tmp_path).score(source.video, source, ask("", "where?", "a <|im_end|>"))
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
    assert sampler.score(source.video, source, ask("where?"))[0].status is Status.OK


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


def test_another_family_is_named(source: Counted, tmp_path: Path) -> None:
    folder = write_llava_onevision(tmp_path / "llava")
    with pytest.raises(CheckpointError, match="llava_onevision"):
        built("vlm_yesno", folder, tmp_path).score(source.video, source, ask("where?"))


@pytest.mark.parametrize(
    "wrong", ["frames_at_once=0", "max_frames=0", "max_pixels=100", "prompt.words='Does it help?'"]
)
def test_settings_that_cannot_be_are_refused_with_their_override(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=rf"sampler\.{wrong.partition('=')[0]}"):
        built("vlm_yesno", tmp_path, tmp_path, wrong)
