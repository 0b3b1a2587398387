"""TSPO's bin-max head, with groups and picks worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from score_curves import curve, seconds

from pipeline.selection.binmax import BinMax
from pipeline.selection.tspo import Tspo, even_indices


@pytest.mark.parametrize(
    ("candidates", "count", "indices"),
    [
        (16, 4, [0, 5, 10, 15]),
        (10, 4, [0, 3, 6, 9]),
        (6, 3, [0, 2, 5]),  # 2.5 goes to the even 2
        (8, 3, [0, 4, 7]),  # 3.5 goes to the even 4
        (5, 5, [0, 1, 2, 3, 4]),
        (7, 1, [6]),
    ],
)
def test_even_indices_have_both_ends_and_round_halves_to_even(candidates: int, count: int, indices: list[int]) -> None:
    assert even_indices(candidates, count).tolist() == indices


def test_each_candidate_belongs_to_the_nearest_index_where_binmax_has_equal_bins() -> None:
    rising = [float(number) for number in range(16)]
    assert Tspo().choose(curve(rising), 4) == [2, 7, 12, 15]
    assert BinMax().choose(curve(rising), 4) == [3, 7, 11, 15]


def test_a_candidate_between_two_indices_belongs_to_the_lower() -> None:
    # Indices 0, 4 and 8 of nine: 2 is as far from 0 as from 4, and 6 as far from 4 as from 8.
    assert Tspo().choose(curve([0.0, 0, 9, 0, 1, 0, 8, 0, 2]), 3) == [2, 6, 8]


def test_the_first_of_equal_scores_as_in_the_released_code_or_the_one_nearest_to_the_index() -> None:
    assert Tspo().choose(curve([3.0] * 16, ties="earliest"), 4) == [0, 3, 8, 13]
    assert Tspo().choose(curve([3.0] * 16, ties="spread"), 4) == [0, 5, 10, 15]


def test_one_frame_is_the_best_of_all() -> None:
    assert Tspo().choose(curve([1.0, 5, 2, 4]), 1) == [1]


def test_the_share_of_a_group_without_a_named_frame_goes_to_the_best_left() -> None:
    scores = [5.0, 4, 3, 0, 0, 0, 0, 0, 0, 1]  # indices 0, 4 (4.5 to even) and 9
    assert Tspo().choose(curve(scores, named_above=0.0), 3) == [0, 9]
    assert seconds(Tspo(), 3, scores) == [0, 1, 9]


def test_groups_are_of_candidates_and_not_of_time() -> None:
    uneven = replace(curve([1.0, 2, 3, 1, 4]), times=np.array([0.0, 1, 2, 50, 100]))
    assert Tspo().choose(uneven, 2) == [2, 4]  # indices 0 and 4; the candidate 2 is between them
