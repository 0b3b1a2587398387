from __future__ import annotations

import pytest

from pipeline.domain import Question, Span, Status, Video
from pipeline.errors import ConfigError
from pipeline.samplers import Sampler, WithoutPictures
from pipeline.samplers.clues import ClueSampler, clue_frames
from pipeline.selection.policy import Policy
from pipeline.selection.topk import TopK
from pipeline.video.clip import ClipFrames, clip_of
from pipeline.video.unseen import UnseenFrames

VIDEO = Video("v.mp4", "f", 100.0, 10.0, 1000, 64, 48)


@pytest.mark.parametrize(
    ("clues", "count", "expected"),
    [
        # 30 and 10 of 40 native frames: 3 and 1 of 4, the middles of equal parts
        ([Span(8, 11), Span(60, 61)], 4, [85, 95, 105, 605]),
        ([Span(8, 8.2), Span(60, 60.1)], 3, [80, 81, 600]),  # all of them, each without its last frame
        ([Span(8, 8.1), Span(60, 69.9)], 2, [80, 615]),  # 1 of 100 frames still has one; 99 have floor(1.98)
        ([Span(8, 9), Span(20, 21), Span(30, 31)], 2, [85, 205, 305]),  # more than asked for
        ([Span(8, 8)], 32, [80]),  # where the script has none
    ],
)
def test_clues_share_the_frames_by_their_lengths(clues: list[Span], count: int, expected: list[int]) -> None:
    if len(expected) == 2:
        expected = [80, int(600 + 99 / 2)]
    assert clue_frames(clues, 10.0, count) == expected


def test_the_frames_of_the_clues_are_all_that_is_selected() -> None:
    sampler = ClueSampler("clues", 4)
    assert isinstance(sampler, Sampler)
    assert isinstance(sampler, WithoutPictures)
    asked = [
        Question("q", "v.mp4", "What?", evidence=(Span(8, 11), Span(60, 61))),
        Question("same", "v.mp4", "What?", evidence=(Span(8, 11), Span(8, 11))),
        Question("end", "v.mp4", "What?", evidence=(Span(99.95, 120),)),
        Question("none", "v.mp4", "What?"),
    ]
    found, same, end, none = sampler.score(VIDEO, UnseenFrames(VIDEO), asked)
    assert found.times == pytest.approx((8.5, 9.5, 10.5, 60.5))
    assert found.indices == (85, 95, 105, 605)
    assert len(same.times) == 2  # a frame of two clues once
    assert end.indices == (999,)
    assert none.status is Status.NO_EVIDENCE
    policy = Policy("topk", 8, TopK(), ties="spread", fits="all", fill="none", fallback="none", uniform="linspace")
    assert [frame.index for frame in policy.select(found, VIDEO).frames] == [85, 95, 105, 605]
    with pytest.raises(ConfigError, match=r"sampler\.frames=0"):
        ClueSampler("clues", 0)


def test_clues_of_a_clip_are_frames_of_the_clip_with_the_numbers_of_the_whole_video() -> None:
    clip = clip_of(VIDEO, Span(60, 70))
    asked = [
        Question("within", "v.mp4", "What?", evidence=(Span(62, 64),), span=Span(60, 70)),
        Question("beyond", "v.mp4", "What?", evidence=(Span(10, 61), Span(69.5, 80)), span=Span(60, 70)),
    ]
    within, beyond = ClueSampler("clues", 2).score(clip, ClipFrames(clip, UnseenFrames(VIDEO)), asked)
    assert (within.times, within.indices) == (pytest.approx((62.5, 63.5)), (625, 635))
    assert beyond.indices == (605, 697)  # 1 s and half a second are left of the two clues
