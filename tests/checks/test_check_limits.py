"""What check says of the limits is what the answerer says when it is asked with real frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from tiny import write_qwen2_vl
from tiny_llava_video import write_llava_video
from tiny_vila import write_vila

from pipeline.answer_requests import OverLimit
from pipeline.answerers import AnswererLimits, AnswerRequest
from pipeline.checks import Level, limits, stage_two
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Frame, Question, SubtitleLine, Video
from pipeline.selection.sizes import Size

QUESTION = Question("q", "film.mp4", "What does the man hold when he comes back?", ("an umbrella", "a dog", "nothing"))


def film(frames: int = 4000, height: int = 360, width: int = 640) -> Video:
    return Video("film.mp4", "f", float(frames), 1.0, frames, width, height)


def full(count: int) -> dict[str, tuple[Size, ...]]:
    return {"q": (Size(count, None),)}


def configured(name: str, source: Path, *more: str) -> Any:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate", [f"answerer={name}", f"answerer.checkpoint.source={source}", *more])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("qwen2_vl_7b", write_qwen2_vl),
        ("llava_video_7b", write_llava_video),
        ("vila15_3b", partial(write_vila, kind="3b")),
    ],
)
def test_what_is_said_to_fit_does_fit(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    config = configured(name, write(tmp_path / "model"))
    answerer = build(config.answerer, "answerer")
    for height, width in ((360, 640), (720, 1280)):
        video = film(height=height, width=width)
        found = stage_two.fitted([QUESTION], {"q": video}, full(4000), answerer, config.answerer.max_new_tokens, {})
        (load,) = found.loads
        pixels = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (height, width, 3))
        frames = tuple(Frame(float(second), second, pixels) for second in range(load.fitting * 2))
        capacity = answerer.capacity(AnswerRequest(QUESTION, video, frames))
        assert load.fitting <= capacity <= load.fitting * 1.05 + 4
        assert found.exact_words
        assert found.over == (load,)


def counted(words: int, frames: int, budget: int, context: int, cap: int | None = None) -> limits.Fit:
    told = AnswererLimits(context, 100, cap, "")
    return limits.fit([QUESTION], {"q": film(frames)}, full(min(budget, frames)), told, None, {"q": words}, 50, True)


def test_a_short_video_fits_any_budget() -> None:
    room = 10 * 100 + 50 + 50 + limits.TEMPLATE_TOKENS
    assert not counted(50, 10, 256, room).over
    assert counted(50, 11, 256, room).fitting == 10
    assert counted(50, 11, 256, room - 1).fitting == 9
    assert counted(50, 400, 256, 10**6, cap=40).fitting == 40
    part = Question("q", "film.mp4", "what?", span=None)
    assert limits.fit([part], {}, {}, AnswererLimits(10, 1, None, ""), None, {}, 1, True).loads == ()


def test_pictures_of_options_take_the_room_of_frames() -> None:
    pictured = replace(QUESTION, option_images=("a.png", "b.png"))
    told = AnswererLimits(10**6, 100, 40, "")
    (load,) = limits.fit([pictured], {"q": film(400)}, full(64), told, None, {"q": 50}, 50, True).loads
    assert (load.fitting, load.tokens) == (38, 40 * 100 + 50 + limits.TEMPLATE_TOKENS)


def test_above_the_limit_is_refused_with_the_overrides_that_help() -> None:
    found = counted(50, 400, 64, 2000)
    (refused,) = limits.findings(found, 64, OverLimit.REFUSE, ["answerer.max_pixels=100"])
    assert refused.level == Level.CANNOT_RUN
    for words in (f"selection.budget={found.fitting}", "answerer.max_pixels=100", "over_limit=keep_best"):
        assert words in refused.remedy
    (cut,) = limits.findings(found, 64, OverLimit.KEEP_BEST, [])
    assert cut.level == Level.NOTE
    assert cut.places == (f"q: {found.fitting} of 64 frames fit",)
    assert limits.findings(counted(50, 400, found.fitting, 2000), found.fitting, OverLimit.REFUSE, []) == []


def test_words_that_leave_no_room_cannot_be_cut() -> None:
    levels = [finding.level for finding in limits.findings(counted(3000, 400, 8, 2000), 8, OverLimit.KEEP_BEST, [])]
    assert levels == [Level.SOME_FAIL, Level.NOTE]


def test_half_the_pixels_are_offered_where_they_are_enough(tmp_path: Path) -> None:
    config = configured("qwen2_vl_7b", write_qwen2_vl(tmp_path / "model"))
    answerer = build(config.answerer, "answerer")
    videos = {"q": film(height=720, width=1280)}
    found = stage_two.fitted([QUESTION], videos, full(100), answerer, 128, {})
    assert len(found.over) == 1
    offered = stage_two.smaller_frames(config.answerer, (), [QUESTION], videos, full(100), found)
    assert offered == ["answerer.max_pixels=200704"]
    smaller = build(configured("qwen2_vl_7b", tmp_path / "model", *offered).answerer, "answerer")
    assert not stage_two.fitted([QUESTION], videos, full(100), smaller, 128, {}).over


def test_subtitles_count_as_words(tmp_path: Path) -> None:
    config = configured("qwen2_vl_7b", write_qwen2_vl(tmp_path / "model"))
    answerer = build(config.answerer, "answerer")
    lines = tuple(SubtitleLine(second, second + 1, "red green blue yellow") for second in range(3000))
    bare, told = (
        stage_two.fitted([QUESTION], {"q": film()}, full(64), answerer, 128, given).loads[0]
        for given in ({}, {"q": lines})
    )
    assert told.words > bare.words + 3000 * 4
    assert told.fitting < bare.fitting
