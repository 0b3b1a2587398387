"""Policies that decide how large frames are, and the tokens that they take."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from score_curves import curve, relevance

from pipeline.artefacts.features import Features, FeatureStore
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import FrameOrigin, Relevance, SelectedFrame, Selection, Status, Video
from pipeline.errors import ConfigError
from pipeline.orchestrator import _at_real_frames
from pipeline.selection import without_scores
from pipeline.selection.semdiv import SemDiv
from pipeline.selection.sizes import Size, SizesFrames, TokenLaw

LAW_3 = TokenLaw(16, 1.0, 32)
"""Of Qwen3-VL, with which LongVideo-Eval counts."""
SHAPES = [(1080, 1920), (720, 1280), (360, 640)]


def film(height: int = 720, width: int = 1280, frames: int = 36_000) -> Video:
    return Video("v.mp4", "f", frames / 10, 10.0, frames, width, height)


@cache
def composed(*words: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate", list(words))


def made(name: str, *overrides: str, words: tuple[str, ...] = ()) -> Any:
    config = OmegaConf.unsafe_merge(
        copy.deepcopy(composed(f"selection={name}", *words)), OmegaConf.from_dotlist(list(overrides))
    )
    policy = build(config.selection, "selection")
    assert isinstance(policy, SizesFrames)
    return policy


def scored(count: int = 3600, peak: int = 1234) -> Relevance:
    return relevance([0.2 + 0.1 * np.exp(-((second - peak) ** 2) / 50) for second in range(count)], named_above=None)


def counted(selection: Selection) -> Counter[float | None]:
    return Counter(frame.scale for frame in selection.frames)


def test_tokens_are_those_that_longvideo_eval_counts() -> None:
    native = [LAW_3.tokens(*shape, 1.0) for shape in SHAPES]
    low = [LAW_3.tokens(*shape, 0.25) for shape in SHAPES]
    assert native == [2040, 880, 220]
    assert [8 * tokens for tokens in native] == [16_320, 7040, 1760]  # 16 frames, two to a grid
    assert [64 * tokens for tokens in low] == [7680, 3840, 960]  # 128 frames at a quarter
    assert [(8 * whole - 64 * small) // 8 for whole, small in zip(native, low, strict=True)] == [1080, 400, 100]
    assert [128 * tokens for tokens in low] == [15_360, 7680, 1920]  # rounding: -6, +9, +9 %


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("count", [1, 16, 17, 64, 200])
def test_the_largest_size_is_within_the_tokens_and_the_next_is_not(height: int, width: int, count: int) -> None:
    video = film(height, width)
    scale = LAW_3.largest(count, video)
    assert count * LAW_3.tokens(height, width, scale) <= LAW_3.budget(video)
    assert scale == 1.0 or count * LAW_3.tokens(height, width, scale + 0.001) > LAW_3.budget(video)
    assert (scale == 1.0) == (count <= 16)


def test_uniform_low_is_spread_whatever_the_scores() -> None:
    policy = made("uniform_low")
    spread = policy.select(relevance([], spread="midpoint"), film())
    by_scores = policy.select(scored(), film())
    failed = policy.select(replace(scored(), status=Status.NO_SCORES, detail="none"), film())
    assert counted(spread) == counted(by_scores) == {0.25: 256}
    assert policy.sizes(film()) == (Size(256, 0.25),)
    assert spread.frames[0].time == pytest.approx(7.0)  # the middle of 1 / 256 of an hour
    assert [frame.time for frame in by_scores.frames][:2] == [0.0, pytest.approx(14.1)]  # both ends: linspace
    assert failed.frames == by_scores.frames
    assert failed.status is Status.NO_SCORES
    assert {frame.source for frame in by_scores.frames} == {FrameOrigin.UNIFORM}
    assert policy.select(replace(scored(), status=Status.UNREADABLE_VIDEO), film()).frames == ()
    assert len(policy.select(scored(9), film(frames=90)).frames) == 90


def test_lohi_shows_the_best_large_and_all_others_small() -> None:
    policy = made("lohi", "selection.law.unit=32")
    video = film()
    selection = policy.select(scored(), video)
    sizes = policy.sizes(video)
    # 16 x 880 tokens less 120 x 60 leave 860 for each of 8; 39 x 22 = 858 at 0.987, and 40 x 22 would be too many.
    assert sizes == (Size(8, 0.987), Size(120, 0.25))
    assert counted(selection) == {0.987: 8, 0.25: 120}
    large = [frame for frame in selection.frames if frame.scale == 0.987]
    assert {frame.source for frame in large} == {FrameOrigin.SAMPLER}
    assert all(abs(frame.time - 1234) <= 4 for frame in large)
    assert len({frame.index for frame in selection.frames}) == 128
    gaps = np.diff([frame.time for frame in selection.frames if frame.scale == 0.25])
    assert np.sort(gaps)[-2] < 60  # still spread: one frame in 28 s, and near the large ones fewer
    assert [frame.time for frame in selection.frames] == sorted(frame.time for frame in selection.frames)


def test_lohi_with_a_uniform_sampler_is_lohi_uniform() -> None:
    selection = made("lohi").select(relevance([], spread="linspace"), film())
    assert counted(selection)[0.25] == 120
    large = [frame.time for frame in selection.frames if frame.scale != 0.25]
    assert large[0] == 0.0
    assert np.diff(large) == pytest.approx([3599.9 / 7] * 7, abs=0.2)


def test_policies_that_look_at_no_scores_say_so_and_others_do_not() -> None:
    found = {name: without_scores(made(name)) for name in ("uniform_low", "lohi", "equal_tokens", "q_frame")}
    assert found == {"uniform_low": "linspace", "lohi": None, "equal_tokens": None, "q_frame": None}
    assert without_scores(build(composed("selection=uniform").selection, "selection")) == "linspace"
    even = made("lohi", "selection.uniform=midpoint", words=("selection@selection.large=uniform",))
    assert without_scores(even) == "midpoint"
    assert without_scores(made("equal_tokens", words=("selection@selection.of=uniform",))) == "linspace"


def test_lohi_with_large_frames_of_uniform_is_lohi_uniform_whatever_the_scores() -> None:
    even = made("lohi", "selection.large.budget=8", words=("selection@selection.large=uniform",))
    frames = even.select(scored(), film()).frames
    assert frames == even.select(relevance([], spread="linspace"), film()).frames
    assert frames == made("lohi").select(relevance([], spread="linspace"), film()).frames


def test_uniform_leaves_the_size_to_the_answerer() -> None:
    policy = build(composed("selection=uniform").selection, "selection")
    frames = policy.select(scored(), film()).frames
    assert len(frames) == 8
    assert {(frame.scale, frame.score, frame.source) for frame in frames} == {(None, None, FrameOrigin.UNIFORM)}
    assert frames == policy.select(relevance([], spread="linspace"), film()).frames


def test_lohi_never_has_a_large_frame_that_is_smaller_than_the_others() -> None:
    tiny = film(40, 40)  # 1 token a frame, in every size: 128 take more than 16
    selection = made("lohi").select(scored(), tiny)
    assert selection.frames == ()
    assert selection.status is Status.NO_FRAMES
    assert "selection.law.frames=32" in selection.detail
    enough = made("lohi", "selection.law.frames=128").select(scored(), tiny)
    assert len(enough.frames) == 128


def test_a_failed_sampler_leaves_lohi_nothing_to_enlarge() -> None:
    failed = replace(scored(), status=Status.NO_SCORES, detail="none")
    assert made("lohi").select(failed, film()).frames == ()
    shown = made("lohi", "selection.large.fallback=uniform").select(failed, film())
    assert shown.status is Status.NO_SCORES
    assert len(shown.frames) == 128


def test_fewer_large_frames_are_larger() -> None:
    named = relevance([5.0 if second in (10, 2000) else 0.0 for second in range(3600)])
    selection = made("lohi", "selection.large.budget=32").select(named, film())
    full = made("lohi", "selection.large.budget=32").sizes(film())[0]
    large = {frame.time: frame.scale for frame in selection.frames if frame.source is FrameOrigin.SAMPLER}
    assert set(large) == {10.0, 2000.0}
    assert set(large.values()) == {1.0}
    assert full.scale is not None
    assert full.scale < 1
    assert len(selection.frames) == 128


@pytest.mark.parametrize("count", [16, 32, 64, 256])
def test_equal_tokens_are_not_exceeded(count: int) -> None:
    policy = made("equal_tokens", f"selection.budget={count}")
    selection = policy.select(relevance([], spread="linspace"), film())
    ((scale, number),) = counted(selection).items()
    assert number == count
    assert policy.sizes(film()) == (Size(count, scale),)
    law, used = policy.law, count * policy.law.tokens(720, 1280, scale)
    assert 0.87 * law.budget(film()) < used <= law.budget(film())


def test_q_frame_has_its_sizes_by_rank_and_costs_eight_frames_of_half_a_side() -> None:
    policy = made("q_frame")
    selection = policy.select(scored(), film())
    assert counted(selection) == {0.5: 4, 0.25: 8, 0.125: 32}
    assert sum(frame.scale**2 / 0.25 for frame in selection.frames) == 8
    assert policy.sizes(film()) == (Size(4, 0.5), Size(8, 0.25), Size(32, 0.125))
    shorter = made("q_frame", "selection.budget=10")
    assert counted(shorter.select(scored(), film())) == {0.5: 4, 0.25: 6}
    assert shorter.sizes(film()) == (Size(4, 0.5), Size(6, 0.25))


def test_q_frame_draws_by_softmax() -> None:
    """The first rank follows softmax(s / temperature), which Gumbel noise gives; the pool is what is drawn from."""
    scores = [0.0, 0.008 * np.log(2), 0.008 * np.log(5)]  # 1 : 2 : 5
    shown = Counter[float]()
    first = made("q_frame", "selection.budget=1")
    for seed in range(400):
        policy = replace(first, seed=seed)
        shown[policy.select(relevance(scores, named_above=None), film(frames=30)).frames[0].time] += 1
    assert [shown[second] / 400 for second in (0.0, 1.0, 2.0)] == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.06)


def test_q_frame_is_repeatable_by_its_seed_and_keeps_a_clear_peak_large() -> None:
    policy, other = made("q_frame"), made("q_frame", "selection.seed=1")
    first = policy.select(scored(), film())
    assert first == policy.select(scored(), film())
    assert first.frames != other.select(scored(), film()).frames
    assert first.frames != policy.select(replace(scored(), question_id="another"), film()).frames
    sharp = relevance([10.0 if second == 100 else 0.0 for second in range(128)], named_above=None)
    (large,) = [frame for frame in policy.select(sharp, film(frames=1280)).frames if frame.time == 100]
    assert large.scale == 0.5


def test_q_frame_draws_from_the_pool_and_from_named_frames_alone() -> None:
    pool = {i * 3599 // 127 for i in range(128)}
    assert {frame.time for frame in made("q_frame").select(scored(), film()).frames} <= pool
    few = relevance([5.0 if second in (3, 7) else 0.0 for second in range(100)])
    assert counted(made("q_frame").select(few, film())) == {0.5: 2}


def test_q_frame_without_scores_spreads_its_large_frames() -> None:
    spread = made("q_frame").select(relevance([], spread="linspace"), film())
    assert counted(spread) == {0.5: 4, 0.25: 8, 0.125: 32}
    large = [frame.time for frame in spread.frames if frame.scale == 0.5]
    assert (large[0], large[-1]) == (0.0, pytest.approx(3599.9))
    assert min(np.diff(large)) > 800
    failed = replace(scored(), status=Status.NO_SCORES, detail="none")
    assert made("q_frame").select(failed, film()).frames == ()
    filled = made("q_frame", "selection.fallback=uniform").select(failed, film())
    assert {frame.source for frame in filled.frames} == {FrameOrigin.FILL}


EXAMPLE = np.array([(1, 0), (0.98, 0.2), (0.6, 0.8), (0, 1), (0.1, 0.995), (-0.7, 0.7)])
"""The embeddings of the worked example, of unit length below."""


def semdiv_of_example(folder: Path, scores: list[float], count: int, ties: str = "spread") -> list[int]:
    vectors = (EXAMPLE / np.linalg.norm(EXAMPLE, axis=1, keepdims=True)).astype(np.float32)
    FeatureStore(folder).keep("frames", Features(tuple(float(second) for second in range(6)), vectors))
    return list(SemDiv(5.0, str(folder)).choose(curve(scores, ties, features="frames"), count))


def test_semdiv_by_hand(tmp_path: Path) -> None:
    """With ``log det L_S`` the example gives 1, 0 and ends; with + I it gives 1, 0, 4."""
    assert semdiv_of_example(tmp_path, [0.9, 0.95, 0.2, 0.4, 0.5, 0.1], 3) == [1, 0, 4]


def test_semdiv_is_greedy_for_its_objective(tmp_path: Path) -> None:
    scores = [0.3, 0.9, 0.5, 0.8, 0.7, 0.1]
    vectors = EXAMPLE / np.linalg.norm(EXAMPLE, axis=1, keepdims=True)
    quality = ((np.array(scores) - 0.1) / 0.8) ** 5
    kernel = np.eye(6) + np.outer(quality, quality) * (vectors @ vectors.T)
    picked: list[int] = []
    for place in semdiv_of_example(tmp_path, scores, 4):
        gains = {
            other: np.linalg.slogdet(kernel[np.ix_([*picked, other], [*picked, other])])[1]
            for other in range(6)
            if other not in picked
        }
        assert gains[place] == pytest.approx(max(gains.values()), abs=1e-6)
        picked.append(place)
    assert len(picked) == 4


@pytest.mark.parametrize(
    ("name", "override", "remedy"),
    [
        ("uniform_low", "selection.scale=0", "selection.scale=0.5"),
        ("uniform_low", "selection.budget=0", "selection.budget=256"),
        ("lohi", "selection.large.budget=129", "selection.large.budget=8"),
        ("lohi", "selection.law.unit=0", "selection.law.unit=28"),
        ("equal_tokens", "selection.of.budget=3", "selection.budget=3"),
        ("q_frame", "selection.budget=45", "selection.budget=44"),
        ("q_frame", "selection.pool=20", "selection.pool=176"),
        ("q_frame", "selection.temperature=0", "selection.temperature=0.8"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_one_that_can(name: str, override: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        made(name, override)
    assert remedy in refused.value.remedy
    made(name, remedy.split(" ", maxsplit=1)[0])


@pytest.mark.parametrize("inner", ["aks", "semdiv"])
def test_any_policy_selects_the_large_frames(inner: str) -> None:
    policy = made("lohi", words=(f"selection@selection.large={inner}",))
    assert policy.large.choice.kind == inner
    assert policy.large.budget == 8


def test_of_two_sizes_of_one_picture_the_larger_is_shown() -> None:
    """Frames of a variable rate are found by their time; a small one may turn out to be a large one's picture."""
    frames = [
        SelectedFrame(1.0, 10, None, FrameOrigin.UNIFORM, 0.25),
        SelectedFrame(1.4, 14, 0.3, FrameOrigin.SAMPLER, 1.0),
        SelectedFrame(3.0, 30, None, FrameOrigin.UNIFORM, 0.25),
    ]
    shown = _at_real_frames(frames, (), film(), False, np.array([0.0, 1.0, 2.0, 3.0]))
    assert [(frame.index, frame.time, frame.scale) for frame in shown] == [(1, 1.0, 1.0), (3, 3.0, 0.25)]
