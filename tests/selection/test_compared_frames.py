"""Policies that compare the frames with each other: dpp, mdp3, scene, facility_location, mmr."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_curves import curve, relevance, video

from pipeline.artefacts.features import Features, FeatureStore
from pipeline.domain import Status
from pipeline.errors import ConfigError
from pipeline.selection.choice import Floats
from pipeline.selection.dpp import Dpp
from pipeline.selection.facility_location import Balance, FacilityLocation
from pipeline.selection.facility_location import greedy as covering
from pipeline.selection.kernel import greedy, kernel, qualities
from pipeline.selection.mdp3 import Mdp3
from pipeline.selection.mmr import Mmr
from pipeline.selection.policy import Policy
from pipeline.selection.scene import Scene

ORTHOGONAL = math.exp(-8) + math.exp(-4) + math.exp(-2) + math.exp(-1) + math.exp(-0.5)
"""The kernel of two unit vectors with |x - y|^2 = 2."""


def keep(folder: Path, vectors: Floats, start: float = 0.0) -> str:
    times = tuple(start + second for second in range(len(vectors)))
    FeatureStore(folder).keep("frames", Features(times, vectors.astype(np.float32)))
    return "frames"


def unit(vectors: Any) -> Floats:
    array = np.asarray(vectors, dtype=np.float64)
    result: Floats = array / np.linalg.norm(array, axis=1, keepdims=True)
    return result


def made(seed: int, count: int, size: int = 6) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    return unit(generator.normal(size=(count, size))), generator.uniform(-0.2, 0.6, size=count)


def objective(chosen: list[int], quality: Floats, vectors: Floats) -> float:
    """As it stands in the paper, without a factorisation of ours."""
    return float(quality[chosen].sum() + np.linalg.slogdet(kernel(vectors[chosen] @ vectors[chosen].T))[1])


def test_the_kernel_by_hand() -> None:
    assert kernel(np.array([1.0]))[0] == 5
    assert kernel(np.array([0.0]))[0] == pytest.approx(ORTHOGONAL)
    assert kernel(np.array([-1.0]))[0] == pytest.approx(
        sum(math.exp(-2 / scale) for scale in (1 / 8, 1 / 4, 1 / 2, 1, 2))
    )


def test_relevance_is_the_kernel_of_frame_and_question() -> None:
    assert qualities(np.array([1.0, 0.0]), 0.2) == pytest.approx([10 * math.log(5), 10 * math.log(ORTHOGONAL)])


def test_greedy_gains_by_hand() -> None:
    # Frames a, a, b with a and b orthogonal, no preference: a brings log 5, then b log(5 - k0^2 / 5); the copy nothing.
    vectors = unit([[1, 0], [1, 0], [0, 1]])
    gains, lists = greedy(np.zeros(3), vectors, 3, np.zeros((1, 3)))
    assert lists == [[0, 2]]
    assert gains[0, :2] == pytest.approx([math.log(5), math.log(5 - ORTHOGONAL**2 / 5)])
    assert gains[0, 2] == -np.inf


def test_greedy_gains_after_a_frame_chosen_before_by_hand() -> None:
    # After a: b brings log(5 - k0^2 / 5), a itself nothing. Without one before it: a brings log 5, then b as above.
    vectors = unit([[1, 0], [0, 1]])
    given = np.array([[5.0, ORTHOGONAL], [0.0, 0.0]])
    gains, lists = greedy(np.zeros(2), vectors, 2, given)
    assert lists == [[1], [0, 1]]
    second = math.log(5 - ORTHOGONAL**2 / 5)
    assert gains == pytest.approx(np.array([[second, -np.inf], [math.log(5), second]]))


def test_greedy_gains_add_up_to_the_objective() -> None:
    vectors, scores = made(0, 12)
    quality = qualities(scores, 0.5)
    gains, (taken,) = greedy(quality, vectors, 6, np.zeros((1, 12)))
    for length in range(1, 7):
        assert gains[0, :length].sum() == pytest.approx(objective(taken[:length], quality, vectors))
        others = [[*taken[: length - 1], other] for other in range(12) if other not in taken[: length - 1]]
        assert taken[:length] == max(others, key=lambda chosen: objective(chosen, quality, vectors))


def test_dpp_takes_a_worse_frame_rather_than_the_same_picture_again(tmp_path: Path) -> None:
    scores = [0.30, 0.30, 0.30, 0.28, 0.1]
    key = keep(tmp_path, unit([[1, 0, 0], [1, 0.01, 0], [1, 0, 0.01], [0, 1, 0], [0, 0, 1]]))
    assert sorted(Dpp(0.2, str(tmp_path)).choose(curve(scores, features=key), 2)) == [0, 3]
    assert sorted(Dpp(0.001, str(tmp_path)).choose(curve(scores, features=key), 2)) == [0, 1]  # relevance alone


def test_mdp3_over_one_segment_is_the_greedy_dpp(tmp_path: Path) -> None:
    vectors, scores = made(1, 20)
    given = curve(list(scores), features=keep(tmp_path, vectors))
    for budget in (1, 2, 7):
        greedily = sorted(Dpp(0.2, str(tmp_path)).choose(given, budget))
        assert list(Mdp3(0.2, 20, str(tmp_path)).choose(given, budget)) == greedily


def test_mdp3_with_segments_of_one_frame_finds_the_best_chain(tmp_path: Path) -> None:
    """Each frame its own segment: the total is a sum over neighbours in the list, which can be tried out in full."""
    for seed in range(5):
        vectors, scores = made(seed, 8)
        quality = qualities(scores, 2.0)
        alike = kernel(vectors @ vectors.T)

        def chain(chosen: tuple[int, ...], quality: Floats = quality, alike: Floats = alike) -> float:
            gain = quality[list(chosen)].sum() + math.log(5)
            return float(gain + sum(math.log(5 - alike[before, after] ** 2 / 5) for before, after in pairwise(chosen)))

        # Dynamic programming keeps one list for each number of frames used, so it may miss the best, never beat it.
        found = tuple(Mdp3(2.0, 1, str(tmp_path)).choose(curve(list(scores), features=keep(tmp_path, vectors)), 3))
        ranked = sorted(combinations(range(8), 3), key=chain, reverse=True)
        assert found in ranked[:3]


def test_mdp3_by_hand_shares_the_budget_among_segments(tmp_path: Path) -> None:
    # Segments {a, a}, {b, c}: equal scores, all different but for the copy. Two frames: a then b gains as much as b, c;
    # equal sums go to fewer frames in the later segment. Three: a, b, c; the copy of a would bring nothing.
    key = keep(tmp_path, unit([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    choice = Mdp3(0.2, 2, str(tmp_path))
    assert list(choice.choose(curve([0.3] * 4, features=key), 2)) == [0, 2]
    assert list(choice.choose(curve([0.3] * 4, features=key), 3)) == [0, 2, 3]


def test_mdp3_may_show_a_scene_again_that_comes_back(tmp_path: Path) -> None:
    # a b a, each its own segment, the a more relevant: the second a is compared with b alone.
    key = keep(tmp_path, unit([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    given = curve([0.3, 0.29, 0.3, -0.9], features=key)
    assert list(Mdp3(0.2, 1, str(tmp_path)).choose(given, 3)) == [0, 1, 2]
    assert sorted(Dpp(0.2, str(tmp_path)).choose(given, 3)) == [0, 1, 3]


SHOTS = unit([[1, 0, 0]] * 4 + [[0, 1, 0]] * 2 + [[0, 0, 1]] * 4)
"""Seconds 0..3, 4..5, 6..9."""


def test_scene_takes_the_best_frame_of_each_shot(tmp_path: Path) -> None:
    given = curve([0.1, 0.2, 0.3, 0.1, 0.9, 0.8, 0.7, 0.1, 0.1, 0.2], features=keep(tmp_path, SHOTS))
    assert sorted(Scene(1, 2.0, str(tmp_path)).choose(given, 3)) == [2, 4, 6]


def test_scene_takes_the_shots_in_order_of_their_best_score(tmp_path: Path) -> None:
    given = curve([0.1, 0.2, 0.3, 0.1, 0.9, 0.8, 0.7, 0.1, 0.1, 0.2], features=keep(tmp_path, SHOTS))
    # Four shots for two frames: the three and, where nothing changes, far from their starts, second 9.
    assert Scene(2, 1.0, str(tmp_path)).choose(given, 2) == [4, 6]


def test_scene_cuts_no_more_shots_than_it_is_told(tmp_path: Path) -> None:
    turning = unit([[1, 0, 0]] * 4 + [[0.6, 0.8, 0]] * 2 + [[0, 0, 1]] * 4)  # changes of 0.4 at second 4, of 1 at 6
    scores = [0.1, 0.2, 0.85, 0.1, 0.9, 0.8, 0.3, 0.1, 0.1, 0.2]
    given = curve(scores, features=keep(tmp_path, turning))
    assert Scene(1, 2.0, str(tmp_path)).choose(given, 2) == [4, 6]
    assert Scene(2, 2.0, str(tmp_path)).choose(given, 2) == [4, 2]


def test_scene_goes_round_again_when_there_are_fewer_shots_than_frames(tmp_path: Path) -> None:
    given = curve([0.1, 0.2, 0.3, 0.1, 0.9, 0.8, 0.7, 0.1, 0.1, 0.2], features=keep(tmp_path, SHOTS))
    # A least length of 5 s leaves one cut: the change at 6 (4 is too near to the start). Round one: 4, 6; round two: 5.
    assert Scene(1, 5.0, str(tmp_path)).choose(given, 3) == [4, 6, 5]


SIX = unit([[1, 0], [0.98, 0.2], [0.6, 0.8], [0, 1], [0.1, 0.995], [-0.7, 0.7]])
RELEVANT = [0.9, 0.95, 0.2, 0.4, 0.5, 0.1]


@pytest.mark.parametrize(
    ("relevance_weight", "coverage_weight", "taken", "gains"),
    [
        (0.0, 1.0, [2, 3, 0], [0.6909, 0.1508, 0.1053]),
        (0.5, 1.0, [4, 1, 0], [0.7288, 0.4195, 0.1509]),
        (1.0, 0.5, [1, 4, 0], [0.5802, 0.3505, 0.2968]),
    ],
)
def test_facility_location_by_hand(
    relevance_weight: float, coverage_weight: float, taken: list[int], gains: list[float]
) -> None:
    shares = np.array(RELEVANT) / sum(RELEVANT)
    found, added = covering(relevance_weight * shares, coverage_weight, SIX, SIX, 3)
    assert found == taken
    assert added == pytest.approx(gains, abs=5e-5)


def test_facility_location_without_coverage_takes_the_best_scores(tmp_path: Path) -> None:
    choice = FacilityLocation(Balance(1.0, 0.0), 1000, str(tmp_path))
    policy = Policy("p", 3, choice, "spread", "all", "none", "none", "linspace")
    selection = policy.select(relevance(RELEVANT, features=keep(tmp_path, SIX)), video(6))
    assert [frame.index for frame in selection.frames] == [0, 10, 40]


def test_facility_location_takes_what_computing_every_gain_would_take() -> None:
    vectors, scores = made(3, 700)
    values = np.abs(scores) / np.abs(scores).sum()
    found, gains = covering(values, 0.5, vectors, vectors[::7], 9)
    best, taken = np.zeros(100), []
    for gain in gains:
        more = 0.5 * (np.maximum(vectors @ vectors[::7].T, best).mean(axis=1) - best.mean())
        totals = values + more
        totals[taken] = -np.inf
        taken.append(int(totals.argmax()))
        assert gain == pytest.approx(totals.max())
        best = np.maximum(best, vectors[::7] @ vectors[taken[-1]])
    assert found == taken


def test_facility_location_covers_frames_that_may_not_be_taken(tmp_path: Path) -> None:
    # Second 0 alone looks so, and is not named: 1 is most like it. 4 stands for the four others.
    vectors = unit([[1, 0, 0], [1, 0.3, 0], [0, 1, 0], [0, 0, 1], [0, 0.1, 1], [0, 0, 1]])
    given = curve([0, 1, 1, 1, 1, 1], named_above=0.0, features=keep(tmp_path, vectors))
    assert FacilityLocation(Balance(0.0, 1.0), 1000, str(tmp_path)).choose(given, 2) == [4, 1]


@pytest.mark.parametrize(("weight", "taken"), [(0.7, [1, 0, 4]), (0.5, [1, 4, 0])])
def test_mmr_by_hand(weight: float, taken: list[int], tmp_path: Path) -> None:
    assert Mmr(weight, str(tmp_path)).choose(curve(RELEVANT, features=keep(tmp_path, SIX)), 3) == taken


def test_mmr_of_frames_without_anything_in_common_is_topk(tmp_path: Path) -> None:
    # Opposite frames differ as much as unrelated ones: no frame is preferred for a negative cosine.
    key = keep(tmp_path, unit([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, 0, 1]]))
    assert Mmr(0.1, str(tmp_path)).choose(curve([0.9, 0.8, 0.7, 0.1], features=key), 3) == [0, 1, 2]


@pytest.mark.parametrize(
    "choice",
    [
        Dpp(0.2, "."),
        Mdp3(0.2, 32, "."),
        Scene(2, 2.0, "."),
        FacilityLocation(Balance(1.0, 0.5), 1000, "."),
        Mmr(0.7, "."),
    ],
)
def test_a_sampler_that_keeps_no_embeddings_ends_the_command(choice: Any) -> None:
    policy = Policy("p", 2, choice, "spread", "all", "none", "none", "linspace")
    with pytest.raises(ConfigError) as error:
        policy.select(relevance([5.0, 4, 3]), video(3))
    assert "sampler=clip" in error.value.remedy
    with pytest.raises(ConfigError):  # also where all frames fit: what runs may not hang on the lengths of the videos
        policy.select(relevance([5.0]), video(1))
    # A question that is to be spread needs none, and a failure stays what it is.
    assert len(policy.select(relevance([], spread="linspace"), video(3)).frames) == 2
    assert policy.select(relevance([], status=Status.NO_SCORES), video(3)).status is Status.NO_SCORES


def test_embeddings_that_are_gone_or_of_other_moments_are_a_failure_of_the_question(tmp_path: Path) -> None:
    policy = Policy("p", 2, Dpp(0.2, str(tmp_path)), "spread", "all", "none", "none", "linspace")
    given = relevance([0.3, 0.2, 0.1], features="frames", named_above=None)
    selection = policy.select(given, video(3))
    assert (selection.frames, selection.status) == ((), Status.NO_FRAMES)
    assert "are missing" in selection.detail
    assert "paths.cache=" in selection.detail
    keep(tmp_path, unit([[1, 0], [0, 1], [1, 1]]), start=0.5)
    assert "other moments" in policy.select(given, video(3)).detail
    keep(tmp_path, unit([[1, 0], [0, 1], [1, 1]]))
    assert policy.select(given, video(3)).status is Status.OK


def test_where_the_embeddings_are_decides_nothing() -> None:
    for here, there in (
        (Dpp(0.2, "a"), Dpp(0.2, "b")),
        (Mdp3(0.2, 32, "a"), Mdp3(0.2, 32, "b")),
        (Scene(2, 2.0, "a"), Scene(2, 2.0, "b")),
        (FacilityLocation(Balance(1.0, 0.5), 1000, "a"), FacilityLocation(Balance(1.0, 0.5), 1000, "b")),
        (Mmr(0.7, "a"), Mmr(0.7, "b")),
    ):
        assert here.identity() == there.identity()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: Dpp(0.0, "."), "weight=0"),
        (lambda: Mdp3(-1.0, 32, "."), "weight=-1"),
        (lambda: Mdp3(0.2, 0, "."), "segment=0"),
        (lambda: Scene(0, 2.0, "."), "shots_per_frame=0"),
        (lambda: Scene(2, -1.0, "."), "min_seconds=-1"),
        (lambda: Balance(0.0, 0.0), "relevance=0"),
        (lambda: Balance(1.0, -1.0), "coverage=-1"),
        (lambda: FacilityLocation(Balance(1.0, 0.5), 0, "."), "covered=0"),
        (lambda: Mmr(1.5, "."), "weight=1.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        wrong()
