from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from score_curves import curve, relevance, video

from pipeline.errors import ConfigError
from pipeline.selection.choice import Curve
from pipeline.selection.focus import Focus, arms_of, best_arms, estimates, upper_bounds
from pipeline.selection.policy import Policy


def focus(**settings: Any) -> Focus:
    usual = {"samples": "all", "arm_seconds": 16.0, "least_arms": 8, "top": 0.2, "share": 0.25, "fewest": 4, "most": 32}
    return Focus(**{**usual, "temperature": 0.06, "seed": 42, **settings})


def read_in_rounds(scores: list[float], rounds: list[int], named_above: float | None = None) -> Curve:
    given = curve(scores, named_above=named_above)
    return Curve(given.times, given.scores, given.named, given.ties, None, np.array(rounds))


def test_the_bonus_of_an_hour_is_larger_than_any_mean() -> None:
    # 225 arms of three samples: N = 675, 3 ln N / 3 = 6.51.
    samples = [np.array([0.5, 0.5, 0.5])] * 224 + [np.array([0.2, 0.5, 0.8])]
    bounds = upper_bounds(samples)
    assert bounds[0] == pytest.approx(0.5 + math.sqrt(2 * math.log(675) * 1e-6 / 3) + 6.51, abs=5e-3)
    assert bounds[-1] == pytest.approx(0.5 + math.sqrt(2 * math.log(675) * 0.06 / 3) + 6.51, abs=5e-3)
    assert best_arms(bounds)[:3] == [224, 0, 1]


def test_arms_hold_every_candidate_and_short_videos_have_eight() -> None:
    hour = arms_of(np.arange(3600.0), 16.0, 8)
    assert (len(hour), {len(arm) for arm in hour}) == (225, {16})
    assert [len(arm) for arm in arms_of(np.arange(20.0), 16.0, 8)] == [2, 3, 2, 3, 2, 3, 2, 3]
    assert [len(arm) for arm in arms_of(np.arange(3.0), 16.0, 8)] == [1, 1, 1]


def test_estimates_are_the_nearest_scores_the_earlier_of_two() -> None:
    found = estimates(np.arange(6), np.array([1, 3, 5]), np.array([0.1, 0.3, 0.5]))
    assert found.tolist() == [0.1, 0.1, 0.1, 0.3, 0.3, 0.5]


# Eight arms of four seconds. Arm 0 looks best by its first two samples, and was read to the end: the rest is nothing.
# Arm 5 has the second best first samples, and all of it is good.
TWO_ROUNDS = [0.9, 0.0, 0.0, 0.8, *[0.1] * 16, 0.7, 0.9, 0.9, 0.7, *[0.1] * 8]
ROUNDS = [0, 1, 1, 0, *[0, -1, -1, 0] * 4, 0, 1, 1, 0, *[0, -1, -1, 0] * 2]


def test_as_released_the_second_round_does_not_reach_its_arm() -> None:
    given = read_in_rounds(TWO_ROUNDS, ROUNDS)
    one_arm = {"top": 0.0, "fewest": 1, "share": 0.01}
    assert sorted(focus(**one_arm, samples="first_round").choose(given, 4)) == [0, 1, 2, 3]
    assert sorted(focus(**one_arm).choose(given, 4)) == [20, 21, 22, 23]
    # Nor the estimates: 1 is next to 0, with 0.9, and 2 next to 3; as read, both are nothing.
    drawn = [focus(**one_arm, samples="first_round", seed=seed).choose(given, 2) for seed in range(50)]
    assert all(sorted(pair) == [0, 1] for pair in drawn)


def test_the_best_fifth_is_of_frames_that_were_scored() -> None:
    scores = [0.1] * 64
    scores[10], scores[40] = 0.95, 0.9
    rounds = [0] * 64
    rounds[10] = -1  # an estimate
    assert focus(fewest=1, share=0.01, least_arms=4).choose(read_in_rounds(scores, rounds), 5)[0] == 40


def test_the_rest_is_shared_evenly_by_the_best_arms() -> None:
    # Eight arms of four. Second 0 is the best frame, of round(0.2 * 6) = 1; the best four arms give 2, 1, 1 and 1.
    scores = [1.0, *[0.9] * 3, *[0.8] * 4, *[0.7] * 4, *[0.6] * 4, *[0.1] * 16]
    picked = focus().choose(curve(scores), 6)
    assert picked[0] == 0
    assert Counter(place // 4 for place in picked) == {0: 3, 1: 1, 2: 1, 3: 1}


def test_a_draw_prefers_the_best_of_an_arm_and_is_the_same_for_a_seed() -> None:
    scores = [0.0, 0.06 * math.log(3), *[0.0] * 6]
    one_arm = {"top": 0.0, "fewest": 1, "share": 0.01, "least_arms": 1}
    assert focus(**one_arm).choose(curve(scores), 2) == focus(**one_arm).choose(curve(scores), 2)
    # Scaled to 0..1: exp(1 / temperature) against 1 each. At 1 / ln 3 the best frame weighs 3 of 10.
    drawn = [focus(**one_arm, temperature=1 / math.log(3), seed=seed).choose(curve(scores), 1) for seed in range(1500)]
    assert np.mean([place == 1 for (place,) in drawn]) == pytest.approx(0.3, abs=0.05)


def test_only_named_frames_are_taken() -> None:
    scores = [0.0, 5, 0, 0, 5, 1, 0, 1, 0]
    assert set(focus().choose(curve(scores, named_above=0.0), 3)) <= {1, 4, 5, 7}


def test_a_policy_hands_the_rounds_on() -> None:
    policy = Policy("p", 4, focus(top=0.0, fewest=1, share=0.01), "spread", "named", "none", "none", "linspace")
    given = relevance(TWO_ROUNDS, named_above=None, rounds=tuple(ROUNDS))
    assert [frame.time for frame in policy.select(given, video(32)).frames] == [20, 21, 22, 23]


@pytest.mark.parametrize(
    "settings",
    [{"arm_seconds": 0.0}, {"least_arms": 0}, {"top": 1.5}, {"share": 0.0}, {"fewest": 33}, {"temperature": 0.0}],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    ((key, value),) = settings.items()
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        focus(**settings)
