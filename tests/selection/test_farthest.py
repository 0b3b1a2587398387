from __future__ import annotations

from pipeline.selection.farthest import farthest_first


def test_the_ends_come_first_then_the_middle() -> None:
    times = [float(second) for second in range(11)]
    assert farthest_first(times, 4, []) == [0, 10, 5, 2]  # 2 and 8 are both 2 away: the earlier


def test_moments_chosen_before_are_kept_away_from() -> None:
    assert farthest_first([0.0, 4.0, 5.0, 9.0], 2, [0.5, 8.0]) == [1, 2]  # 3.5 away; then 3 -> 1, 9 -> 1, 0 -> 0.5
    assert farthest_first([0.0, 30.0, 60.0], 1, [31.0]) == [0]


def test_never_more_than_there_are_and_none_twice() -> None:
    assert sorted(farthest_first([1.0, 1.0, 1.0], 5, [1.0])) == [0, 1, 2]
    assert farthest_first([], 3, []) == []
    assert farthest_first([1.0], 0, []) == []
