"""What is planned before a model is loaded is what the model is called for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from tiny_encoders import write_clip

from pipeline.artefacts.features import FeatureStore
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question, Video
from pipeline.samplers import HoldsPrefix, PlansWindows
from pipeline.samplers.windows import Windowing, count_windows, windows


def made(*overrides: str) -> Any:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build(compose("sample", list(overrides)).sampler, "sampler")


def film(seconds: float) -> Video:
    return Video("film.mp4", "f", seconds, 25.0, round(seconds * 25), 640, 360)


def asked(*texts: str) -> list[Question]:
    return [Question(text, "film.mp4", text) for text in texts]


@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_as_many_windows_are_counted_as_are_cut(overlap: int) -> None:
    windowing = Windowing(frames=4, overlap=overlap, on_out_of_memory="fail", smallest_half=1)
    for items in range(30):
        assert count_windows(items, windowing) == len(list(windows(range(items), windowing)))


def test_questions_share_the_windows_of_gens() -> None:
    sampler = made("sampler=gens_3b")
    assert isinstance(sampler, PlansWindows)
    assert sampler.windows(film(255.5), asked("a", "b", "c")) == 1
    assert sampler.windows(film(3600), asked("a")) == 15
    assert sampler.windows(film(3600), []) == 0
    # 6008 tokens were measured with such a window, its question included.
    assert isinstance(sampler, HoldsPrefix)
    assert 0.95 < sampler.prefix_tokens() / 6008 < 1.1
    assert 34_000 < made("sampler=gens").prefix_tokens() < 36_500


def test_questions_of_the_hybrid_share_a_window_only_where_all_frames_are_kept(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip")
    sampler = made("sampler=hybrid", f"sampler.first.checkpoint.source={clip}", f"paths.cache={tmp_path}")
    assert sampler.windows(film(256), asked("a", "b")) == 256 // 64 + 1
    assert sampler.windows(film(640), asked("a", "b")) == 640 // 64 + 2


def test_frames_that_were_embedded_before_are_not_planned_again(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip")
    sampler = made("sampler=clip", f"sampler.checkpoint.source={clip}", f"paths.cache={tmp_path}")
    assert sampler.windows(film(100), asked("a")) == 2
    store = FeatureStore(tmp_path)
    store._store.keep(sampler._features_key(film(100)), b"vectors")
    assert sampler.windows(film(100), asked("a", "b")) == 0


def test_each_side_of_the_route_plans_its_own_questions() -> None:
    sampler = made("sampler=route")
    assert sampler.windows(film(300), asked("What is this video about?")) == 0
    assert sampler.windows(film(300), asked("What is this video about?", "Who opens the door?")) == 2


def test_a_limit_on_candidates_limits_the_batches() -> None:
    sampler = made("sampler=vlm_yesno", "sampler.max_frames=256", "sampler.frames_at_once=8")
    assert sampler.windows(film(7200), asked("a")) == 32
    assert sampler.windows(film(20), asked("a")) == 3
