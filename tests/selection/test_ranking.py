from __future__ import annotations

from collections.abc import Sequence

from pipeline.selection.ranking import best_first


def spread(times: Sequence[float], count: int, chosen: Sequence[float]) -> list[int]:
    return best_first(times, [1.0] * len(times), count, "spread", chosen)


def test_of_equal_scores_the_ends_come_first_then_the_middle() -> None:
    times = [float(second) for second in range(11)]
    assert spread(times, 4, []) == [0, 10, 5, 2]  # 2 and 8 are both 2 away: the earlier


def test_of_equal_scores_the_earliest() -> None:
    assert best_first([0, 1, 2, 3], [1, 2, 2, 2], 2, "earliest") == [1, 2]


def test_moments_chosen_before_are_kept_away_from() -> None:
    assert spread([0.0, 4.0, 5.0, 9.0], 2, [0.5, 8.0]) == [1, 2]  # 3.5 away; then 3 -> 1, 9 -> 1, 0 -> 0.5
    assert spread([0.0, 30.0, 60.0], 1, [31.0]) == [0]


def test_never_more_than_there_are_and_none_twice() -> None:
    assert sorted(spread([1.0, 1.0, 1.0], 5, [1.0])) == [0, 1, 2]
    assert spread([], 3, []) == []
    assert spread([1.0], 0, []) == []


def test_a_distance_is_kept_from_the_chosen_and_from_each_other() -> None:
    times, scores = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    assert best_first(times, scores, 3, "spread", apart=2.0) == [0, 2, 4]
    assert best_first(times, scores, 3, "spread", chosen=[2.0], apart=2.0) == [0, 4]  # no third is far enough
