"""What every policy under conf/selection promises, made from its YAML."""

from __future__ import annotations

import copy
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from score_curves import relevance, video

from pipeline.artefacts.features import Features, FeatureStore
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import FrameOrigin, Relevance, Status
from pipeline.selection import without_scores
from pipeline.selection.policy import Policy

SIZED = {"uniform_low", "lohi", "equal_tokens", "q_frame"}
"""Policies that promise something else: test_frame_sizes.py."""
OTHERS = {"uniform", "function"}
"""That look at no scores, or do what a user's function says."""
POLICIES = sorted({path.stem for path in (conf_dir() / "selection").glob("*.yaml")} - OTHERS - SIZED)
LENGTH = 120


@cache
def composed(name: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate", [f"selection={name}"])


def made(name: str, folder: Path, *overrides: str) -> Policy:
    given = OmegaConf.from_dotlist([f"paths.cache={folder}", *overrides])
    config = OmegaConf.unsafe_merge(copy.deepcopy(composed(name)), given)
    policy = build(config.selection, "selection")
    assert isinstance(policy, Policy)
    return policy


def embedded(scores: list[float], folder: Path) -> Relevance:
    """Cosines over a slow pan: neighbouring frames are alike, those at the ends are not."""
    angles = np.linspace(0, np.pi, len(scores))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    FeatureStore(folder).keep("pan", Features(tuple(float(second) for second in range(len(scores))), vectors))
    return relevance(scores, named_above=None, features="pan")


def curve_with_a_peak(at: int) -> list[float]:
    generator = random.Random(7)
    return [0.2 * generator.random() + 0.6 * np.exp(-((second - at) ** 2) / 8) for second in range(LENGTH)]


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("budget", [1, 4, 8, 33])
def test_a_peak_is_kept(name: str, budget: int, tmp_path: Path) -> None:
    policy = made(name, tmp_path, f"selection.budget={budget}")
    selection = policy.select(embedded(curve_with_a_peak(73), tmp_path), video(LENGTH))
    assert without_scores(policy) is None
    assert len(selection.frames) == budget
    assert min(abs(frame.time - 73) for frame in selection.frames) <= 1
    assert {frame.source for frame in selection.frames} == {FrameOrigin.SAMPLER}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("score", [0.0, 0.25])
def test_constant_scores_are_spread(name: str, score: float, tmp_path: Path) -> None:
    policy = made(name, tmp_path, "selection.budget=8")
    selection = policy.select(embedded([score] * LENGTH, tmp_path), video(LENGTH))
    quarters = [int(frame.time // (LENGTH / 4)) for frame in selection.frames]
    assert len(quarters) == 8
    assert all(quarters.count(quarter) in (1, 2, 3) for quarter in range(4))


@pytest.mark.parametrize("name", POLICIES)
def test_a_still_video_with_constant_scores_is_spread(name: str, tmp_path: Path) -> None:
    vectors = np.ones((LENGTH, 1), dtype=np.float32)
    times = tuple(float(second) for second in range(LENGTH))
    FeatureStore(tmp_path).keep("still", Features(times, vectors))
    given = relevance([0.2] * LENGTH, named_above=None, features="still")
    selection = made(name, tmp_path, "selection.budget=8").select(given, video(LENGTH))
    quarters = [int(frame.time // (LENGTH / 4)) for frame in selection.frames]
    assert len(quarters) == 8
    assert set(quarters) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", POLICIES)
def test_a_budget_above_the_candidates_takes_each_once(name: str, tmp_path: Path) -> None:
    for fits in ("all", "named"):
        policy = made(name, tmp_path, "selection.budget=64", f"selection.fits={fits}", "selection.fill=none")
        for count in (1, 2, 7):
            selection = policy.select(embedded([0.3] * count, tmp_path), video(count))
            assert [frame.time for frame in selection.frames] == list(range(count))


@pytest.mark.parametrize("name", POLICIES)
def test_any_scores_use_the_budget_once_and_only_for_named_frames(name: str, tmp_path: Path) -> None:
    policies = {
        budget: made(name, tmp_path, f"selection.budget={budget}", "selection.fits=named") for budget in (1, 2, 5, 16)
    }
    for seed in range(40):
        generator = random.Random(seed)
        length = generator.randrange(17, 80)
        scores = [float(generator.choice([0, 0, 1, 2, 3, 4, 5])) for _ in range(length)]  # GenS's, with many ties
        vectors = np.random.default_rng(seed).normal(size=(length, 4))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        times = tuple(float(second) for second in range(length))
        FeatureStore(tmp_path).keep("any", Features(times, vectors.astype(np.float32)))
        given = relevance(scores, features="any")
        for budget, policy in policies.items():
            selection = policy.select(given, video(length))
            assert selection == policy.select(given, video(length))
            indices = [frame.index for frame in selection.frames]
            assert indices == sorted(set(indices))
            chosen = [frame for frame in selection.frames if frame.source is FrameOrigin.SAMPLER]
            assert len(chosen) == min(budget, sum(score > 0 for score in scores))
            assert all(frame.score == scores[round(frame.time)] > 0 for frame in chosen)


@pytest.mark.parametrize("name", POLICIES)
def test_a_failure_is_not_ranked(name: str, tmp_path: Path) -> None:
    failed = relevance([5.0] * 20, status=Status.NO_SCORES, detail="prose")
    selection = made(name, tmp_path, "selection.fallback=none").select(failed, video(20))
    assert (selection.frames, selection.status) == ((), Status.NO_SCORES)


@pytest.mark.parametrize("name", POLICIES)
def test_three_hours_are_cut_in_no_time(name: str, tmp_path: Path) -> None:
    length = 10800
    vectors = np.random.default_rng(0).normal(size=(length, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    times = tuple(float(second) for second in range(length))
    FeatureStore(tmp_path).keep("long", Features(times, vectors.astype(np.float32)))
    generator = random.Random(0)
    given = relevance([generator.random() for _ in range(length)], named_above=None, features="long")
    assert len(made(name, tmp_path, "selection.budget=64").select(given, video(length)).frames) == 64


@pytest.mark.parametrize("name", POLICIES)
def test_the_record_says_which_policy_and_settings(name: str, tmp_path: Path) -> None:
    policy = made(name, tmp_path)
    line = policy.select(embedded([0.3] * 20, tmp_path), video(20)).policy
    settings = dict(policy.identity())
    choice = dict(settings.pop("choice"))
    settings.pop("kind")
    assert line.startswith(choice.pop("kind"))
    parts = {key: value for key, value in choice.items() if isinstance(value, dict)}
    assert all(f" {key}={value}" in line for key, value in {**settings, **choice}.items() if key not in parts)
    for key, part in parts.items():
        assert all(f" {key}.{name}={value}" in line for name, value in part.items() if name != "kind")
    assert "{" not in line
    assert str(tmp_path) not in line


def test_no_two_policies_are_the_same(tmp_path: Path) -> None:
    identities = [made(name, tmp_path).identity() for name in POLICIES]
    assert all(identities.count(identity) == 1 for identity in identities)
