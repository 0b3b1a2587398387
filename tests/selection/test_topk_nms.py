from __future__ import annotations

import pytest
from score_curves import seconds

from pipeline.errors import ConfigError
from pipeline.selection.topk import TopK
from pipeline.selection.topk_nms import TopKApart


def test_the_neighbour_of_a_chosen_frame_waits_for_a_worse_one_far_away() -> None:
    scores = [5.0, 4, 0, 0, 3, 0, 0, 0, 0, 0, 1]
    # span 10 s, K = 2: w = 10 / (2 * 2) = 2.5 s. Second 1 lies within it, second 4 does not.
    assert seconds(TopKApart(0.5), 2, scores) == [0, 4]
    assert seconds(TopK(), 2, scores) == [0, 1]


def test_a_moment_at_just_the_radius_is_far_enough() -> None:
    # w = 8 / (2 * 2) = 2 s; suppressed is |t - t*| < w.
    assert seconds(TopKApart(0.5), 2, [5.0, 4, 3, 0, 0, 0, 0, 0, 1]) == [0, 2]


def test_the_radius_is_halved_until_the_budget_is_used() -> None:
    # w = 2.5 s leaves none of seconds 1 and 2; 1.25 s leaves second 2 although second 1 is better.
    assert seconds(TopKApart(0.5), 2, [5.0, 4, 3] + [0.0] * 8) == [0, 2]
    # Three of four neighbours: at any radius above 1 s one of each pair is suppressed.
    assert seconds(TopKApart(0.5), 3, [5.0, 4, 3, 2] + [0.0] * 7) == [0, 1, 2]


def test_constant_scores_are_spread() -> None:
    assert seconds(TopKApart(0.5), 3, [3.0] * 11) == [0, 5, 10]


def test_a_radius_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="radius=0"):
        TopKApart(0.0)
