from __future__ import annotations

from dataclasses import replace

import numpy as np
from score_curves import curve, seconds

from pipeline.selection.binmax import BinMax

# Seconds 0 to 9 in three bins of 3 s: 0..2, 3..5, 6..9.


def test_the_best_frame_of_each_bin() -> None:
    assert BinMax().choose(curve([0.1, 0.5, 0.2, 0.9, 0.8, 0.1, 0.3, 0.2, 0.1, 0.4]), 3) == [1, 3, 9]


def test_a_tie_goes_to_the_middle_of_the_bin() -> None:
    scores = [0.1, 0.5, 0.2, 0.9, 0.8, 0.1, 0.3, 0.2, 0.4, 0.4]
    assert BinMax().choose(curve(scores), 3) == [1, 3, 8]  # the middle of the last bin is 7.5
    assert BinMax().choose(curve([3.0] * 10), 3) == [1, 4, 7]
    assert BinMax().choose(curve([3.0] * 10, ties="earliest"), 3) == [0, 3, 6]


def test_the_share_of_a_bin_without_a_named_frame_goes_to_the_best_left() -> None:
    scores = [5.0, 4, 3, 0, 0, 0, 0, 0, 0, 1]
    assert BinMax().choose(curve(scores, named_above=0.0), 3) == [0, 9]
    assert seconds(BinMax(), 3, scores) == [0, 1, 9]


def test_bins_are_of_time_and_not_of_candidates() -> None:
    uneven = replace(curve([1.0, 2, 3, 1, 1]), times=np.array([0.0, 1, 2, 50, 100]))
    assert BinMax().choose(uneven, 2) == [2, 3]  # 0 to 50 s and 50 to 100 s; both ends are as far from 75
