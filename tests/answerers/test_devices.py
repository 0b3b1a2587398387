"""Every family on a GPU, and parted over two, says what it says on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_aria
import tiny_internvl
import tiny_llava_video
import tiny_qwen3_vl
import tiny_vila
from asking import answered
from hydra import compose, initialize_config_dir
from same_decisions import Decisions, step_alike

from pipeline.answerers import AnswerRequest
from pipeline.config import build, conf_dir
from pipeline.domain import Frame, Question, Video

ANSWERERS = {
    "qwen2_vl": ("qwen2_vl_7b", tiny.write_qwen2_vl),
    "qwen2_5_vl": ("qwen2_5_vl_7b", tiny.write_qwen2_5_vl),
    "qwen3_vl": ("qwen3_vl_8b", tiny_qwen3_vl.write_qwen3_vl),
    "qwen3_vl_moe": ("qwen3_vl_30b_a3b", tiny_qwen3_vl.write_qwen3_vl_moe),
    "llava_onevision": ("llava_onevision_0_5b", tiny.write_llava_onevision),
    "aria": ("aria", tiny_aria.write_aria),
    "internvl": ("internvl3_8b", tiny_internvl.write_internvl),
    "llava_video": ("llava_video_7b", tiny_llava_video.write_llava_video),
    "vila": ("vila15_3b", lambda folder: tiny_vila.write_vila(folder, "3b")),
}
VIDEO = Video("clip.mp4", "f", 100.0, 25.0, 2500, 160, 90)


def requests() -> list[AnswerRequest]:
    made = []
    for number, count in enumerate((3, 3, 2)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 90, 160, 3), dtype=np.uint8)
        frames = tuple(Frame(4.0 * place, 100 * place, picture) for place, picture in enumerate(pixels))
        made.append(AnswerRequest(Question(f"q{number}", "clip.mp4", "Why?" * (number + 1), None), VIDEO, frames))
    return made


def made(folder: Path, family: str, device: str, dtype: str = "float32") -> Any:
    settings = [f"answerer.checkpoint.source={folder}", f"answerer.checkpoint.device={device}"]
    settings += [f"answerer.checkpoint.dtype={dtype}", "answerer.max_new_tokens=6"]
    settings += ["answerer.max_pixels=6400"] if "qwen" in family else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(f"answerer/{ANSWERERS[family][0]}", settings)
    return build(config.answerer, "answerer")


@pytest.fixture(autouse=True)
def _devices_step_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    step_alike(monkeypatch)


def said(answerer: Any, told: Decisions | None = None) -> tuple[list[str], Decisions]:
    try:
        decisions = Decisions(answerer.model.language, told)
        return [answer.text for answer in answered(answerer, requests())], decisions
    finally:
        answerer.close()


def assert_same(there: Any, here: Any) -> None:
    expected, decided = said(here)
    texts, followed = said(there, decided)
    assert texts == expected
    followed.assert_close()


@pytest.mark.moving
@pytest.mark.parametrize("family", ["qwen2_vl", "aria", "qwen3_vl_moe"])
def test_what_a_gpu_is_compared_by_notices_half_precision(family: str, tmp_path: Path) -> None:
    folder = ANSWERERS[family][1](tmp_path)
    assert_same(made(folder, family, "cpu"), made(folder, family, "cpu"))
    half = made(folder, family, "cpu", "bfloat16")
    with pytest.raises(AssertionError, match="not close"):
        assert_same(half, made(folder, family, "cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("family", ANSWERERS)
def test_a_gpu_says_what_the_cpu_says(family: str, tmp_path: Path) -> None:
    folder = ANSWERERS[family][1](tmp_path)
    assert_same(made(folder, family, "cuda:0"), made(folder, family, "cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("family", ANSWERERS)
def test_two_gpus_say_what_one_says(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    from pipeline.families.loading import checkpoint

    folder = ANSWERERS[family][1](tmp_path)
    here = made(folder, family, "cpu")
    language = here.model.language
    most = sum(parameter.nbytes for parameter in language.parameters()) * 4 // 5
    placed: list[set[Any]] = []
    stock = checkpoint.check_none_left_out
    monkeypatch.setattr(checkpoint, "room_for_weights", lambda free: {0: most, 1: 10**10})
    monkeypatch.setattr(
        checkpoint,
        "check_none_left_out",
        lambda places, source: (placed.append(set(places.values())), stock(places, source))[1],
    )
    assert_same(made(folder, family, "spread"), here)
    assert {0, 1} in placed
