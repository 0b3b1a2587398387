from __future__ import annotations

import math

import numpy as np
import pytest
from answer_rows import answered, question
from scipy import stats

from pipeline.benchmarks.intervals import CLUSTERED, WILSON, difference_interval, share_interval
from pipeline.benchmarks.metrics import accuracy

VALUES = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
VIDEOS = ["a", "a", "a", "b", "b", "c", "c"]


def test_the_interval_is_the_one_computed_by_hand() -> None:
    # Residuals about the mean 3/7, summed by video: a 2 - 9/7 = 5/7, b 1 - 6/7 = 1/7, c 0 - 6/7 = -6/7.
    # Robust variance of the mean: their squares' sum / N^2, times G/(G-1) * (N-1)/(N-1).
    summed = (25 + 1 + 36) / 49
    error = math.sqrt(summed / 49 * 3 / 2)
    margin = float(stats.t.ppf(0.975, 2)) * error
    found = share_interval(VALUES, VIDEOS)
    assert found is not None
    assert (found.videos, found.method) == (3, CLUSTERED)
    assert (found.low, found.high) == (0.0, 1.0)  # the margin reaches beyond both ends: seen in a tenth of it
    tenth = difference_interval([value / 10 for value in VALUES], VIDEOS)
    assert tenth is not None
    assert (tenth.low, tenth.high) == pytest.approx((3 / 70 - margin / 10, 3 / 70 + margin / 10))


def test_the_interval_of_a_mean_of_means_is_the_one_computed_by_hand() -> None:
    # Two tasks: means 1/4 (4 questions) and 2/3 (3 questions); M-Avg 11/24. A question moves it by
    # residual / (2 * questions of its task); the sums of these by video are what the variance is made of.
    values = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    tasks = ["x"] * 4 + ["y"] * 3
    videos = ["a", "a", "b", "b", "c", "c", "d"]
    moved = {"a": (0.75 - 0.25) / 8, "b": (-0.25 - 0.25) / 8, "c": (1 / 3 + 1 / 3) / 6, "d": (-2 / 3) / 6}
    error = math.sqrt(sum(each**2 for each in moved.values()) * (4 / 3) * (6 / 5))
    margin = float(stats.t.ppf(0.975, 3)) * error
    found = share_interval(values, videos, tasks)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((max(0.0, 11 / 24 - margin), min(1.0, 11 / 24 + margin)))


def test_questions_that_fall_together_make_the_interval_wide() -> None:
    apart = share_interval([1.0, 0.0] * 20, [str(i) for i in range(40)])
    together = share_interval([float(i // 4 % 2) for i in range(40)], [str(i // 4) for i in range(40)])
    assert apart is not None
    assert together is not None
    assert together.high - together.low > 1.9 * (apart.high - apart.low)


def test_it_covers_the_truth_of_clustered_data_where_an_interval_of_independent_draws_does_not() -> None:
    random = np.random.default_rng(7)
    repeats, videos, each = 300, 40, 6
    names = [str(i // each) for i in range(videos * each)]
    covered, naive = 0, 0
    for _ in range(repeats):
        # Half of the videos are easy (0.9), half hard (0.3): the truth is 0.6.
        chances = np.repeat(random.choice([0.9, 0.3], size=videos), each)
        values = (random.random(videos * each) < chances).astype(float)
        found = share_interval(values.tolist(), names)
        assert found is not None
        covered += found.low <= 0.6 <= found.high
        margin = 1.96 * values.std() / math.sqrt(len(values))
        naive += abs(values.mean() - 0.6) <= margin
    assert 0.92 <= covered / repeats <= 0.98
    assert naive / repeats < 0.88


def test_of_one_video_nothing_is_said() -> None:
    assert share_interval([1.0, 0.0, 1.0], ["a"] * 3) is None
    assert share_interval([], []) is None
    assert difference_interval([1.0, 0.0], ["a", "a"]) is None


def test_where_all_are_right_the_interval_is_not_a_point() -> None:
    found = share_interval([1.0] * 30, [str(i // 3) for i in range(30)])
    assert found is not None
    assert found.method == WILSON
    assert found.high == pytest.approx(1.0)
    assert found.low == pytest.approx(1 / (1 + 1.959963985**2 / 10))  # Wilson with 10 of 10 videos
    nothing = share_interval([0.0] * 4, list("abcd"))
    assert nothing is not None
    assert (nothing.low, nothing.high) == (0.0, pytest.approx(1 - 1 / (1 + 1.959963985**2 / 4)))


def test_no_interval_leaves_its_range_or_is_not_a_number() -> None:
    random = np.random.default_rng(1)
    for _ in range(100):
        count = int(random.integers(1, 9))
        values = random.integers(0, 2, count).astype(float).tolist()
        videos = [str(video) for video in random.integers(0, 3, count)]
        tasks = [str(task) for task in random.integers(0, 3, count)]
        for found in (share_interval(values, videos), share_interval(values, videos, tasks)):
            assert found is None or 0 <= found.low <= found.high <= 1
        difference = difference_interval([2 * value - 1 for value in values], videos)
        assert difference is None or -1 <= difference.low <= difference.high <= 1


def test_an_accuracy_gives_the_intervals_of_itself_and_of_its_groups() -> None:
    asked = [question(f"q{i}", video=f"v{i // 2}", task="count" if i < 8 else "order") for i in range(16)]
    counted = accuracy([answered(each, right=i % 3 == 0) for i, each in enumerate(asked)], asked)
    values = [float(i % 3 == 0) for i in range(16)]
    videos = [f"v{i // 2}" for i in range(16)]
    assert counted.interval() == share_interval(values, videos)
    assert counted.interval("task", "order") == share_interval(values[8:], videos[8:])
    assert counted.mean_interval("task") == share_interval(values, videos, ["count"] * 8 + ["order"] * 8)
    assert counted.interval("task", "no such task") is None
