from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from score_curves import curve, seconds

from pipeline.errors import ConfigError
from pipeline.selection.adaq import AdaQ, interval

SCORES = [0.18, 0.20, 0.19, 0.31, 0.30, 0.21, 0.17, 0.24]


def adaq(**settings: Any) -> AdaQ:
    return AdaQ(**{"gamma": 0.5, "scores": "raw", "interval": 0.9973, "draw": "even", "seed": 0, **settings})


@pytest.mark.parametrize(
    ("scores", "expected", "sizes"),
    [
        ("raw", [0.045, 0.061, 0.052, 0.335, 0.287, 0.071, 0.038, 0.113], (8, 7)),
        ("scaled", [0, 0, 0, 0.752, 0.248, 0, 0, 0.0003], (2, 2)),
    ],
)
def test_probabilities_and_intervals_by_hand(scores: str, expected: list[float], sizes: tuple[int, int]) -> None:
    # Var of the scaled scores 0.1288, temperature 0.0644.
    likely = adaq(scores=scores).log_probabilities(curve(SCORES))
    assert np.exp(likely) == pytest.approx(expected, abs=6e-4)
    assert (len(interval(likely, 0.9973)), len(interval(likely, 0.9545))) == sizes


def test_one_peak_takes_all_of_the_probability_and_a_ramp_shares_it() -> None:
    peak = [0.2] * 50 + [0.35] + [0.2] * 49
    assert len(interval(adaq().log_probabilities(curve(peak)), 0.9973)) == 1
    ramp = np.linspace(0.2, 0.3, 100).tolist()
    assert len(interval(adaq().log_probabilities(curve(ramp)), 0.9973)) == 99


def test_frames_at_even_steps_of_the_accumulated_probability() -> None:
    # Cumulated .045 .105 .157 .492 .778 .849 .887 1; steps 1/3, 1/2, 2/3 meet 3, 4 and 4; a fourth is the best left.
    assert adaq().choose(curve(SCORES), 3) == [3, 4]
    assert seconds(adaq(), 3, SCORES, named_above=None) == [3, 4, 7]
    # Two steps meet the middle: of all of it frame 4; of 3, 4 and 7 alone, which are the fewest to reach .65, frame 4.
    assert adaq().choose(curve(SCORES), 2) == [4]
    assert adaq(interval=0.65).choose(curve(SCORES), 2) == [4]


def test_fewer_frames_in_the_interval_than_the_budget_are_followed_by_the_most_probable_others() -> None:
    for draw in ("even", "random"):
        assert sorted(adaq(scores="scaled", draw=draw).choose(curve(SCORES), 3)) == [3, 4, 7]


def test_constant_scores_are_drawn_evenly() -> None:
    assert adaq().choose(curve([0.3] * 10), 4) == [2, 4, 5, 7]


def test_a_random_draw_is_without_replacement_from_the_interval_and_the_same_for_a_seed() -> None:
    given = curve(SCORES)
    draws = [adaq(draw="random", interval=0.9545, seed=seed).choose(given, 2) for seed in range(1500)]
    assert draws[0] == adaq(draw="random", interval=0.9545).choose(given, 2)
    assert all(len(set(pair)) == 2 and 6 not in pair for pair in draws)
    # The first of the two is 3 with p = .335 / (1 - .038); the standard error of 1500 draws is .012.
    assert np.mean([pair[0] == 3 for pair in draws]) == pytest.approx(0.335 / 0.962, abs=0.05)


def test_frames_that_are_not_named_have_no_probability() -> None:
    given = curve([0.0, 5, 0, 0, 5, 1, 0, 1, 0], named_above=0.0)
    assert set(adaq(gamma=100.0).choose(given, 3)) <= {1, 4, 5, 7}
    assert seconds(adaq(), 3, [0.0, 5, 0, 0, 5, 1, 0, 1, 0]) == [1, 4, 7]


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"gamma": 0.0}, "gamma=0"), ({"interval": 1.5}, "interval=1.5"), ({"seed": -1}, "seed=-1")],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        adaq(**settings)
