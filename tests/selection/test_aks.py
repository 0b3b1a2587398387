from __future__ import annotations

import pytest
from score_curves import curve, seconds

from pipeline.errors import ConfigError
from pipeline.selection.aks import Aks

AKS = Aks(threshold=0.8, depth=5)


def test_without_clear_peaks_the_video_is_halved_and_each_part_gives_its_share() -> None:
    # K = 4. Whole: mean of the best four 0.25, mean 0.125; no peak. Halves and quarters: the same. Four leaves of one
    # frame each: {0, 1}, {2, 3}, {4, 5}, {6, 7}; of equal scores the one far from those before it.
    assert AKS.choose(curve([0, 0, 0, 0, 0, 0, 0, 1]), 4) == [0, 3, 5, 7]
    assert AKS.choose(curve([0, 0, 0, 0, 0, 0, 0, 1], ties="earliest"), 4) == [0, 2, 4, 7]


def test_a_video_with_a_clear_peak_stays_whole() -> None:
    # K = 2 of 12: mean of the best two 1, mean 1/6; 0.833 > 0.8. Both best frames, though they are neighbours.
    peak = [0.0] * 8 + [1.0, 1.0] + [0.0] * 2
    assert sorted(AKS.choose(curve(peak), 2)) == [8, 9]
    # With a threshold above that it is halved: one frame of each half, of equal ones the one far from the other.
    assert sorted(Aks(0.9, 5).choose(curve(peak), 2)) == [0, 9]


def test_a_stretch_with_a_peak_stays_whole_beside_one_that_is_halved() -> None:
    # K = 4 of 48. Whole video: best four 1, 1, 1, 1 against a mean of (4 + 24 * 0.5) / 48 = 1/3: 0.667, halved.
    # First half: best four 1, mean 4 / 24: 0.833, whole, int(4 / 2) = 2 frames of its four equal ones: 20 and far from
    # it 23. Second half: all 0.5, halved to quarters of int(4 / 4) = 1 each: far from 23 is 35, then far from both 47.
    scores = [0.0] * 20 + [1.0] * 4 + [0.5] * 24
    assert AKS.choose(curve(scores), 4) == [20, 23, 35, 47]


def test_scores_are_scaled_before_the_threshold() -> None:
    scores = [0.1] * 8 + [0.3, 0.3] + [0.1] * 2
    assert sorted(AKS.choose(curve(scores), 2)) == [8, 9]


def test_what_the_shares_leave_over_goes_to_the_best_scores_left() -> None:
    # K = 3: two halves of int(3 / 2) = 1; the third frame is the best of the rest.
    assert seconds(AKS, 3, [0.1, 0.9, 0.2, 0.8, 0.85, 0.05], named_above=None) == [1, 3, 4]


def test_depth_ends_the_halving() -> None:
    assert sorted(Aks(0.8, 0).choose(curve([0.1, 0.2, 0.9, 0.8]), 2)) == [2, 3]
    assert sorted(Aks(0.8, 1).choose(curve([0.1, 0.2, 0.9, 0.8]), 2)) == [1, 2]


@pytest.mark.parametrize("budget", [1, 2, 3, 8, 24, 31, 32, 64])
def test_every_budget_is_used_also_those_below_two_to_the_depth(budget: int) -> None:
    assert len(seconds(AKS, budget, [0.5] * 100)) == budget


def test_genss_shares_go_only_to_stretches_in_which_something_is_named() -> None:
    scores = [0.0] * 4 + [5, 5, 4, 0]
    assert AKS.choose(curve(scores, named_above=0.0), 2) == [4]  # the first half names nothing
    assert seconds(AKS, 2, scores) == [4, 5]


def test_a_negative_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match="depth=-1"):
        Aks(0.8, -1)
