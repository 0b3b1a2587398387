"""Qwen3-VL-Embedding scores as the authors' recipe gives them, written out here with the stock model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedding_samplers import Counted, ask, built, counted, pictures
from PIL import Image
from tiny import write_qwen2_vl
from tiny_encoders import write_qwen3_vl
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pipeline.domain import Status
from pipeline.errors import CheckpointError, ConfigError

pytestmark = pytest.mark.moving

SECONDS = 4
TEXTS = ("what colour is the square?", "Question: which frames show the circle that appears after the yellow square?")
SMALL = "max_pixels=8192"


def recipe(folder: Path, instruction: str, user: str, frame: Any = None) -> torch.Tensor:
    """One input alone, no padding: the last token's state behind the last layer of the model with its head."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pixels: dict[str, Any] = {}
    if frame is not None:
        pixels = dict(
            Qwen2VLImageProcessorPil.from_pretrained(folder)(images=frame, do_resize=False, return_tensors="pt")
        )
        pads = "<|image_pad|>" * (int(pixels["image_grid_thw"].prod()) // 4)
        user = f"<|vision_start|>{pads}<|vision_end|>"
    prompt = f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    kinds = (ids == model.config.image_token_id).int()
    with torch.inference_mode():
        output = model(ids, mm_token_type_ids=kinds, output_hidden_states=True, **pixels)
    return output.hidden_states[-1][0, -1]


@pytest.mark.parametrize("form", [{}, {"ends_itself": True}, {"head": True}], ids=["tied", "end token", "own head"])
def test_scores_follow_the_authors_recipe(tmp_path: Path, form: dict[str, bool]) -> None:
    folder = write_qwen3_vl(tmp_path / "checkpoint", seed=6, **form)
    with counted(tmp_path / "clip.mp4", seconds=SECONDS, size=128) as source:
        frames = [frame.pixels for frame in pictures(source, SECONDS)]
        sampler = built("qwen3_vl_embedding", folder, tmp_path, SMALL, "frames_at_once=3")
        found = sampler.score(source.video, source, ask(*TEXTS))
    small = [np.asarray(Image.fromarray(frame).resize((64, 64), Image.Resampling.BICUBIC)) for frame in frames]
    # 128 x 128 pixels are more than 8192: the rule's nearest multiples of 32 below are 64 x 64.
    seen = torch.stack([recipe(folder, "Represent the user's input.", "", frame) for frame in small])
    for one, text in zip(found, TEXTS, strict=True):
        heard = recipe(folder, "Retrieve images or text relevant to the user's query.", text)
        expected = torch.nn.functional.cosine_similarity(heard[None], seen, dim=-1)
        assert one.scores == pytest.approx(expected.tolist(), abs=5e-6)
        assert one.named_above is None


def test_new_questions_decode_nothing_and_instructions_concern_their_side_alone(tmp_path: Path) -> None:
    folder = write_qwen3_vl(tmp_path / "checkpoint")
    with counted(tmp_path / "clip.mp4", seconds=3) as source:
        before = built("qwen3_vl_embedding", folder, tmp_path).score(source.video, source, ask("a star"))[0]
        again = Counted(source.source)
        other = built("qwen3_vl_embedding", folder, tmp_path, "question_instruction='Find the frame.'")
        after = other.score(again.video, again, ask("a star"))[0]
        assert again.asked == 0
        assert after.features == before.features
        assert after.scores != before.scores
        frames = built("qwen3_vl_embedding", folder, tmp_path, "frame_instruction='Describe it.'")
        assert frames.score(again.video, again, ask("a star"))[0].features != before.features
        assert again.asked == 3
        smaller = built("qwen3_vl_embedding", folder, tmp_path, "max_pixels=4096")
        assert smaller.score(again.video, again, ask("a star"))[0].features != before.features
        assert again.asked == 6


def test_frames_keep_their_shape_and_stay_below_the_limit(tmp_path: Path) -> None:
    sampler = built("qwen3_vl_embedding", write_qwen3_vl(tmp_path / "checkpoint"), tmp_path, "max_pixels=65536")
    prepared = sampler._encoder.prepare(np.zeros((360, 640, 3), np.uint8))
    assert prepared.pixels.shape == (192, 320, 3)
    assert prepared.shape.patches == 12 * 20
    assert sampler._encoder.prepare(np.zeros((20, 20, 3), np.uint8)).shape.patches == 4 * 4


def test_frames_of_several_sizes_go_together(tmp_path: Path) -> None:
    encoder = built("qwen3_vl_embedding", write_qwen3_vl(tmp_path / "checkpoint"), tmp_path)._encoder
    dice = np.random.default_rng(0)
    prepared = [encoder.prepare(dice.integers(0, 255, size, np.uint8)) for size in ((64, 96, 3), (128, 64, 3))]
    together = encoder.embed_frames(prepared)
    for row, one in zip(together, prepared, strict=True):
        assert row == pytest.approx(encoder.embed_frames([one])[0], abs=2e-6)


def test_markup_in_a_question_is_refused(tmp_path: Path) -> None:
    folder = write_qwen3_vl(tmp_path / "checkpoint")
    with counted(tmp_path / "clip.mp4", seconds=1) as source:
        found = built("qwen3_vl_embedding", folder, tmp_path).score(source.video, source, ask("a <|image_pad|>"))
    assert found[0].status is Status.INVALID_QUESTION


def test_another_family_is_named(tmp_path: Path) -> None:
    folder = write_qwen2_vl(tmp_path / "qwen2")
    with counted(tmp_path / "clip.mp4", seconds=1) as source, pytest.raises(CheckpointError, match="qwen2_vl"):
        built("qwen3_vl_embedding", folder, tmp_path).score(source.video, source, ask("a star"))


def test_a_config_that_names_another_token_for_pictures_is_refused(tmp_path: Path) -> None:
    folder = write_qwen3_vl(tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "image_token_id": 5}), encoding="utf-8")
    with counted(tmp_path / "clip.mp4", seconds=1) as source, pytest.raises(CheckpointError, match="image_token_id"):
        built("qwen3_vl_embedding", folder, tmp_path).score(source.video, source, ask("a star"))


def test_a_size_below_the_models_least_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sampler\.max_pixels"):
        built("qwen3_vl_embedding", tmp_path, tmp_path, "max_pixels=100")
