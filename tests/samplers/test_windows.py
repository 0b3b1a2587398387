from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.samplers.windows import Window, Windowing, halves, windows


def windowing(frames: int, overlap: int, **fields: Any) -> Windowing:
    return Windowing(frames, overlap, **{"on_out_of_memory": "fail", "smallest_half": 1} | fields)


@pytest.mark.parametrize("length", range(1, 23))
@pytest.mark.parametrize(("frames", "overlap"), [(1, 0), (5, 0), (5, 1), (5, 4), (8, 3), (100, 10)])
def test_every_candidate_is_seen_and_every_window_brings_a_new_one(length: int, frames: int, overlap: int) -> None:
    cut = list(windows(range(length), windowing(frames, overlap)))
    assert all(window.items == tuple(range(window.first, window.first + len(window.items))) for window in cut)
    assert all(len(window.items) == frames for window in cut[:-1])
    assert 1 <= len(cut[-1].items) <= frames
    assert {item for window in cut for item in window.items} == set(range(length))
    for before, after in itertools.pairwise(cut):
        assert len(set(before.items) & set(after.items)) == overlap
        assert set(after.items) - set(before.items)


def test_no_candidate_no_window() -> None:
    assert list(windows([], windowing(5, 0))) == []


def test_a_window_comes_before_the_stream_goes_on() -> None:
    """A stream of hours must not be gathered first."""
    taken = []

    def stream() -> Iterator[int]:
        for number in range(10**9):
            taken.append(number)
            yield number

    first = next(windows(stream(), windowing(4, 0)))
    assert first.items == (0, 1, 2, 3)
    assert len(taken) <= 5


@pytest.mark.parametrize(("frames", "overlap", "key"), [(0, 0, "frames"), (8, 8, "overlap"), (8, -1, "overlap")])
def test_windows_that_cannot_be_name_the_setting(frames: int, overlap: int, key: str) -> None:
    with pytest.raises(ConfigError, match=f"sampler.window.{key}"):
        windowing(frames, overlap)


@pytest.mark.parametrize(("length", "smallest", "lengths"), [(8, 4, [4, 4]), (9, 4, [4, 5]), (7, 4, []), (1, 1, [])])
def test_halves_are_windows_of_the_same_stream_and_not_too_short(
    length: int, smallest: int, lengths: list[int]
) -> None:
    whole = Window(3, tuple(range(3, 3 + length)))
    parts = halves(whole, windowing(20, 0, on_out_of_memory="halve", smallest_half=smallest))
    assert [len(part.items) for part in parts] == lengths
    assert [item for part in parts for item in part.items] == (list(whole.items) if lengths else [])
    assert all(part.items[0] == part.first for part in parts)
    assert halves(whole, windowing(20, 0, smallest_half=smallest)) == ()
