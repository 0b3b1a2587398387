from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from pipeline.domain import FrameOrigin, Relevance, Selection, Status, Video
from pipeline.errors import ConfigError, InputError, with_remedy
from pipeline.selection import SelectionPolicy
from pipeline.selection.policy import Policy
from pipeline.selection.topk import TopK

SAMPLER, FILL, UNIFORM = FrameOrigin.SAMPLER, FrameOrigin.FILL, FrameOrigin.UNIFORM


def policy(budget: int = 4, **settings: Any) -> Policy:
    given = {"ties": "spread", "fits": "named", "fill": "none", "fallback": "none", "uniform": "linspace"} | settings
    return Policy(name="topk", budget=budget, choice=TopK(), **given)


def video(seconds: float = 100, fps: float = 10) -> Video:
    return Video("v.mp4", "f", seconds, fps, round(seconds * fps), 64, 48)


def relevance(scores: list[float] | dict[int, float], length: int = 100, **settings: Any) -> Relevance:
    """One candidate a second; a dictionary names some of ``length`` seconds."""
    if isinstance(scores, dict):
        scores = [scores.get(second, 0) for second in range(length)]
    return Relevance("q", tuple(float(second) for second in range(len(scores))), tuple(scores), **settings)


def times(selection: Selection) -> list[float]:
    return [frame.time for frame in selection.frames]


def sources(selection: Selection) -> list[FrameOrigin]:
    return [frame.source for frame in selection.frames]


def test_best_scores_in_order_of_time() -> None:
    selection = policy(3).select(relevance({70: 5, 10: 3, 40: 4, 90: 2}), video())
    assert times(selection) == [10, 40, 70]
    assert [frame.score for frame in selection.frames] == [3, 4, 5]
    assert [frame.index for frame in selection.frames] == [100, 400, 700]
    assert sources(selection) == [SAMPLER] * 3
    assert selection.status is Status.OK
    assert selection.budget == 3
    assert selection.policy == "topk budget=3 ties=spread fits=named fill=none fallback=none uniform=linspace"


def test_frames_that_are_not_named_do_not_use_up_the_budget() -> None:
    assert times(policy(8).select(relevance({11: 5, 12: 5}), video())) == [11, 12]


def test_similarities_are_all_named_also_the_negative_ones() -> None:
    scores = [-0.3, -0.1, 0.2, -0.2]
    assert times(policy(2).select(relevance(scores, named_above=None), video())) == [1, 2]
    assert times(policy(2).select(relevance(scores), video())) == [2]


def test_ties_go_to_the_earliest() -> None:
    given = relevance({50: 5} | dict.fromkeys(range(10, 20), 4))
    assert times(policy(4, ties="earliest").select(given, video())) == [10, 11, 12, 50]


def test_ties_are_spread_away_from_what_is_chosen_already() -> None:
    given = relevance({10: 5, 12: 4, 13: 4, 14: 4, 80: 4, 81: 4})
    # 81 is 71 s from 10; then 14 is 4 s from 10, more than 80 (1 s from 81) and 13 (3 s).
    assert times(policy(3).select(given, video())) == [10, 14, 81]


def test_constant_scores_spread_over_the_whole_video() -> None:
    assert times(policy(3).select(relevance([3.0] * 101), video(101))) == [0, 50, 100]


def test_a_budget_above_the_candidates_takes_each_once() -> None:
    assert times(policy(64).select(relevance([1, 2, 3]), video(3))) == [0, 1, 2]


def test_a_video_whose_candidates_fit_is_shown_whole() -> None:
    selection = policy(5, fits="all").select(relevance([0, 5, 0]), video(3))
    assert times(selection) == [0, 1, 2]
    assert sources(selection) == [UNIFORM, SAMPLER, UNIFORM]
    assert [frame.score for frame in selection.frames] == [None, 5, None]
    assert times(policy(3, fits="all").select(relevance([0, 5, 0]), video(3))) == [0, 1, 2]
    assert times(policy(2, fits="all").select(relevance([0, 5, 0]), video(3))) == [1]


def test_a_video_whose_candidates_fit_is_shown_whole_also_where_none_was_named() -> None:
    given = relevance([0, 0], status=Status.NOTHING_RELEVANT, detail="no frame named")
    selection = policy(5, fits="all").select(given, video(2))
    assert sources(selection) == [UNIFORM, UNIFORM]
    assert selection.status is Status.NOTHING_RELEVANT


def test_a_failure_is_no_licence_to_show_the_whole_video() -> None:
    given = relevance([0, 0], status=Status.NO_SCORES, detail="prose")
    assert policy(5, fits="all").select(given, video(2)).frames == ()


def test_fill_uses_the_rest_of_the_budget_far_from_the_chosen() -> None:
    # The grid of four over 0..99.9 s: 0, 33.3, 66.6, 99.9. From {1, 98}: 33.3 is 32.3 away, 66.6 is 31.4.
    selection = policy(4, fill="uniform").select(relevance({1: 5, 98: 4}), video())
    assert times(selection) == [1, 33.3, 66.6, 98]
    assert sources(selection) == [SAMPLER, FILL, FILL, SAMPLER]
    assert [frame.score for frame in selection.frames] == [5, None, None, 4]


def test_fill_takes_what_there_is_in_a_video_with_fewer_frames_than_the_budget() -> None:
    selection = policy(64, fill="uniform").select(relevance([5]), video(0.5))
    assert [frame.index for frame in selection.frames] == [0, 1, 2, 3, 4]
    assert sources(selection) == [SAMPLER] + [FILL] * 4


@pytest.mark.parametrize(
    "failed",
    [
        Relevance("q", (), (), status=Status.OUT_OF_MEMORY, detail="a window did not fit; sampler.window.frames=128"),
        relevance({10: 5}, status=Status.NO_SCORES, detail="the model answered in prose"),
        relevance({}, status=Status.NOTHING_RELEVANT, detail="no window named a frame"),
    ],
)
def test_a_failure_gives_no_frames_unless_a_fallback_is_declared(failed: Relevance) -> None:
    selection = policy(4).select(failed, video())
    assert selection.frames == ()
    assert selection.status is failed.status
    assert selection.detail.startswith(failed.detail)
    assert "selection.fallback=uniform" in selection.detail

    selection = policy(4, fallback="uniform").select(failed, video())
    assert times(selection) == [0, 33.3, 66.6, 99.9]
    assert sources(selection) == [FILL] * 4
    assert selection.status is failed.status
    assert selection.detail == failed.detail


@pytest.mark.parametrize("status", [Status.UNREADABLE_VIDEO, Status.INVALID_QUESTION])
def test_no_fallback_for_what_other_frames_would_not_mend(status: Status) -> None:
    failed = Relevance("q", (), (), status=status, detail="why")
    for fallback in ("none", "uniform"):
        selection = policy(4, fallback=fallback).select(failed, video())
        assert (selection.frames, selection.status, selection.detail) == ((), status, "why")


def test_partial_scores_are_used_and_stay_partial() -> None:
    given = relevance({5: 4}, status=Status.PARTIAL_SCORES, detail="window 2 failed")
    selection = policy(4).select(given, video())
    assert times(selection) == [5]
    assert (selection.status, selection.detail) == (Status.PARTIAL_SCORES, "window 2 failed")


def test_nothing_named_without_a_failure_is_no_frames() -> None:
    selection = policy(4).select(relevance({}), video())
    assert selection.status is Status.NO_FRAMES
    assert selection.frames == ()
    assert "selection.fallback=uniform" in selection.detail


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ("", "there is no frame to show\n  what to do: show such questions"),
        ("no window named a frame", "no window named a frame\n  what to do: show such questions"),
        (
            with_remedy("it did not fit", "sampler.window.frames=128"),
            "what to do: sampler.window.frames=128; or show such",
        ),
    ],
)
def test_the_fallback_is_told_as_what_to_do_once(detail: str, told: str) -> None:
    selection = policy(4).select(Relevance("q", (), (), status=Status.NOTHING_RELEVANT, detail=detail), video())
    assert told in selection.detail
    assert selection.detail.count("what to do:") == 1


def test_a_video_without_frames_selects_none() -> None:
    empty = replace(video(), frame_count=0)
    for given in (relevance({1: 5}), Relevance("q", (), (), spread="linspace")):
        selection = policy(4, fill="uniform", fallback="uniform").select(given, empty)
        assert selection.status is Status.NO_FRAMES
        assert selection.detail == "the video has no frames"


def test_a_spread_relevance_is_uniform_over_native_frames() -> None:
    selection = policy(4).select(Relevance("q", (), (), spread="midpoint"), video(10))
    assert [frame.index for frame in selection.frames] == [12, 37, 62, 87]
    assert times(selection) == [1.2, 3.7, 6.2, 8.7]
    assert sources(selection) == [UNIFORM] * 4
    assert selection.policy == "uniform midpoint budget=4"
    assert selection.status is Status.OK


def test_a_spread_budget_above_the_frames_shows_each_once() -> None:
    selection = policy(8).select(Relevance("q", (), (), spread="linspace"), video(0.3))
    assert [frame.index for frame in selection.frames] == [0, 1, 2]


def test_an_unknown_spread_is_refused() -> None:
    with pytest.raises(InputError, match=r"'random'.*not a uniform variant"):
        policy().select(Relevance("q", (), (), spread="random"), video())


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_of_nothing_is_refused_with_the_override(budget: int) -> None:
    with pytest.raises(ConfigError) as error:
        policy(budget)
    assert f"selection.budget={budget}" in error.value.problem
    assert "selection.budget=8" in error.value.remedy


def test_a_video_shorter_than_a_second_gives_its_one_candidate() -> None:
    selection = policy(8).select(relevance([4]), video(0.4))
    assert [(frame.time, frame.index) for frame in selection.frames] == [(0, 0)]


def test_the_index_is_that_of_the_frame_on_screen() -> None:
    ntsc = video(100, fps=30000 / 1001)
    # At 29.97 a second, frame 30 comes on screen at 1.001 s: second 1 still shows frame 29.
    assert [frame.index for frame in policy(2).select(relevance([0, 5]), ntsc).frames] == [29]
    # What was spread by index comes back as the same index.
    for index in range(ntsc.frame_count):
        at = replace(relevance([5.0]), times=(index / ntsc.fps,))
        assert policy(1).select(at, ntsc).frames[0].index == index


def test_candidates_that_show_one_native_frame_are_one_frame() -> None:
    slow = video(10, fps=0.5)  # five pictures, two seconds each
    selection = policy(8).select(relevance([3, 5, 4, 4, 0, 1, 0, 0, 0, 0]), slow)
    assert [(frame.time, frame.index, frame.score) for frame in selection.frames] == [(1, 0, 5), (2, 1, 4), (5, 2, 1)]


def test_a_candidate_past_the_end_is_the_last_frame() -> None:
    assert [frame.index for frame in policy(8).select(relevance([0, 0, 0, 5]), video(2)).frames] == [19]


def test_any_scores_keep_the_promises() -> None:
    for seed in range(300):
        generator = random.Random(seed)
        length = generator.randrange(1, 60)
        scores = [float(generator.randrange(6)) for _ in range(length)]
        settings = {
            "ties": generator.choice(["earliest", "spread"]),
            "fits": generator.choice(["all", "named"]),
            "fill": generator.choice(["none", "uniform"]),
            "fallback": generator.choice(["none", "uniform"]),
            "uniform": generator.choice(["linspace", "interior", "stride", "midpoint"]),
        }
        cut = policy(generator.randrange(1, 20), **settings)
        clip = video(length, fps=generator.choice([0.7, 1, 12.5, 30000 / 1001]))
        if not clip.frame_count:
            continue
        selection = cut.select(relevance(scores), clip)
        assert selection == cut.select(relevance(scores), clip)
        indices = [frame.index for frame in selection.frames]
        assert indices == sorted(set(indices))
        assert times(selection) == sorted(times(selection))
        assert all(0 <= index < clip.frame_count for index in indices)
        assert len(indices) <= cut.budget
        if settings["fill"] == "uniform" and settings["fallback"] == "uniform":
            assert len(indices) == min(cut.budget, clip.frame_count)
        chosen = [frame for frame in selection.frames if frame.source is SAMPLER]
        assert all(frame.score == scores[round(frame.time)] > 0 for frame in chosen)
        if clip.fps >= 1:
            named = [second for second, score in enumerate(scores) if score > 0]
            assert len(chosen) == min(cut.budget, len(named))
            left_out = set(named) - {round(frame.time) for frame in chosen}
            if left_out:
                assert max(scores[second] for second in left_out) <= min(frame.score or 0 for frame in chosen)


def test_a_long_video_is_cut_in_no_time() -> None:
    """Nine hours at 1 fps, all tied, 512 frames: the selection is made anew in each run, so it may not be slow."""
    selection = policy(512).select(relevance([3.0] * 32550), video(32550))
    gaps = [after - before for before, after in zip(times(selection), times(selection)[1:], strict=False)]
    assert max(gaps) <= 2 * min(gaps) + 1


def test_identity_holds_what_decides_and_not_the_name() -> None:
    assert isinstance(policy(), SelectionPolicy)
    assert policy().identity() == replace(policy(), name="mine").identity()
    assert policy(4).identity() != policy(5).identity()
    assert policy(ties="earliest").identity() != policy().identity()
