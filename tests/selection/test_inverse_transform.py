from __future__ import annotations

import pytest
from score_curves import curve, seconds

from pipeline.errors import ConfigError
from pipeline.selection.inverse_transform import InverseTransform


def test_frames_at_even_steps_of_the_accumulated_scores() -> None:
    # Scaled 0, 1/2, 1, 1/2, 0; cdf 0, 1/4, 3/4, 1, 1; steps 1/4, 5/12, 7/12, 3/4: the first meets 1, the others 2.
    assert InverseTransform(1.0).choose(curve([0, 1, 2, 1, 0]), 4) == [1, 2]
    # Squared 0, 1/4, 1, 1/4, 0; cdf 0, 1/6, 5/6, 1, 1; steps 1/3, 1/2, 2/3 all meet frame 2.
    assert InverseTransform(2.0).choose(curve([0, 1, 2, 1, 0]), 3) == [2]
    # Cubed, two peaks of 1 and one of 1/8 between: cdf 8/17, 9/17, 1; steps 1/4, 5/12, 7/12, 3/4.
    assert InverseTransform(3.0).choose(curve([0, 2, 0, 1, 0, 2]), 4) == [1, 5]


def test_the_lower_the_sharpness_the_wider_the_frames_lie() -> None:
    scores = [1.0] * 10 + [2.0] + [1.0] * 9 + [0.0]
    # At 3 the peak weighs 1, nineteen others 1/8, together 3.375. Steps 1/4 .. 3/4 of that are 0.844 (after 6.75 frames
    # of 1/8), 1.406 and 1.969 (within the peak, 1.25 to 2.25) and 2.531 (2.25 frames after it).
    assert InverseTransform(3.0).choose(curve(scores), 4) == [6, 10, 13]
    # At 0 all of twenty weigh the same: steps after 5, 8.33, 11.67 and 15 of them.
    assert InverseTransform(0.0).choose(curve(scores[:20]), 4) == [4, 8, 11, 14]


def test_what_is_met_twice_leaves_room_for_the_best_scores_left() -> None:
    assert seconds(InverseTransform(1.0), 3, [0, 1, 2, 1.5, 0], named_above=None) == [1, 2, 3]


def test_constant_scores_weigh_the_same() -> None:
    # cdf 0.1 .. 1; steps 0.25, 0.417, 0.583, 0.75.
    assert InverseTransform(3.0).choose(curve([0.3] * 10), 4) == [2, 4, 5, 7]


def test_a_budget_of_one_takes_the_best() -> None:
    assert InverseTransform(3.0).choose(curve([3, 1, 5, 2]), 1) == [2]


def test_frames_that_are_not_named_weigh_nothing() -> None:
    scores = [0.0, 5, 0, 0, 5, 1, 0, 1, 0]
    assert set(InverseTransform(0.0).choose(curve(scores, named_above=0.0), 3)) <= {1, 4, 5, 7}
    assert seconds(InverseTransform(3.0), 3, scores) == [1, 4, 7]  # the tie of 1 is cut far from the 5


def test_a_sharpness_that_prefers_the_worst_is_refused() -> None:
    with pytest.raises(ConfigError, match="alpha=-1"):
        InverseTransform(-1.0)
