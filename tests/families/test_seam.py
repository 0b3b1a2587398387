"""What holds for the two objects of every family."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_aria
import tiny_glm
import tiny_internvl
import tiny_llava_video
import tiny_vila
import torch
from hydra import compose, initialize_config_dir
from transformers import DynamicCache

from pipeline.answerers import AnswerRequest, TakesScales
from pipeline.config import build, conf_dir
from pipeline.domain import Frame, Question, Video
from pipeline.errors import FramesError

pytestmark = pytest.mark.moving

VIDEO = Video("clip.mp4", "f", 100.0, 25.0, 2500, 160, 90)
FAMILIES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "qwen2_vl": ("qwen2_vl_7b", tiny.write_qwen2_vl),
    "qwen2_5_vl": ("qwen2_5_vl_7b", tiny.write_qwen2_5_vl),
    "llava_onevision": ("llava_onevision_7b", tiny.write_llava_onevision),
    "llava_video": ("llava_video_7b", tiny_llava_video.write_llava_video),
    "internvl": ("internvl3_8b", tiny_internvl.write_internvl),
    "vila": ("vila15_3b", lambda folder: tiny_vila.write_vila(folder, "3b")),
    "aria": ("aria", tiny_aria.write_aria),
    "glm": ("glm4_6v_flash", tiny_glm.write_glm46v),
}


@pytest.fixture(scope="module", params=FAMILIES)
def answerer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    name, write = FAMILIES[request.param]
    folder = write(tmp_path_factory.mktemp(request.param))
    settings = [f"answerer.checkpoint.source={folder}", "answerer.checkpoint.device=cpu"]
    settings += ["answerer.max_pixels=6400"] if "qwen" in name or "glm" in name else []
    settings += ["answerer.form=images"] if "onevision" in name else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(f"answerer/{name}", overrides=settings)
    return build(config.answerer, "answerer")


def request_of(*scales: float | None) -> AnswerRequest:
    dice = np.random.default_rng(0)
    frames = tuple(
        Frame(float(place), place, dice.integers(0, 256, (90, 160, 3), dtype=np.uint8), scale)
        for place, scale in enumerate(scales)
    )
    return AnswerRequest(Question("q", VIDEO.path, "Why?"), VIDEO, frames)


@torch.inference_mode()
def test_features_are_what_the_language_model_reads_where_pictures_stand(answerer: Any) -> None:
    """So a window of GenS and a question of an answerer see the same frames."""
    prompt = answerer.encode(request_of(0.5, None, 1.0) if isinstance(answerer, TakesScales) else request_of(None))
    decoder, read = answerer.model.language.get_decoder(), []
    handle = decoder.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    answerer.model.prefill(prompt, prompt.tokens, DynamicCache(config=decoder.config))
    handle.remove()
    features = answerer.model.features(prompt.frames)
    ids = torch.from_numpy(prompt.input_ids)[None]
    is_picture = ids == answerer.processor.picture_token
    assert torch.equal(answerer.model.embedded(ids, is_picture, torch.cat(features)), read[0])
    assert [len(each) for each in features] == [frame.shape.tokens for frame in prompt.frames]


def test_a_processor_goes_to_a_worker_and_prepares_the_same_frames(answerer: Any) -> None:
    other = pickle.loads(pickle.dumps(answerer.processor))
    for frame in request_of(None, None).frames:
        here, there = answerer.processor.prepare(frame.pixels), other.prepare(frame.pixels)
        assert here.shape == there.shape
        assert np.array_equal(here.pixels, there.pixels)
        assert here.pixels.dtype == np.uint8


def test_a_prepared_request_tells_its_patches_and_tokens(answerer: Any) -> None:
    one, two = answerer.encode(request_of(None)), answerer.encode(request_of(None, None))
    assert two.patches == 2 * one.patches > 0
    assert two.tokens - one.tokens >= one.frames[0].shape.tokens
    words = answerer.prompt.words(request_of(None))
    assert one.tokens == len(one.input_ids) == answerer.processor.count(request_of(None).frames, words)


def test_a_scale_is_kept_or_refused_by_name(answerer: Any) -> None:
    half = request_of(0.5)
    assert isinstance(answerer, TakesScales) == (type(answerer).__name__ in ("QwenVL", "Glm"))
    if isinstance(answerer, TakesScales):
        prompt = answerer.encode(request_of(0.5, 1.0, None))
        answerer.check_scales([0.5, 1.0, None])
        small, whole, _ = (answerer.visual_tokens(90, 160, scale) for scale in (0.5, 1.0, None))
        assert [frame.shape.tokens for frame in prompt.frames[:2]] == [small, whole]
        assert small < whole
        described = answerer.processor.describe(request_of(0.5, 1.0).frames)
        assert " to ".join(f"{f.shape.height} x {f.shape.width}" for f in prompt.frames[:2]) in described
        return
    with pytest.raises(FramesError, match=r"scaled by 0\.5.*one size"):
        answerer.encode(half)
