"""Two rounds of an inner sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from pipeline.domain import Cost, Question, Relevance, Status, Video
from pipeline.errors import ConfigError
from pipeline.samplers import Sampler
from pipeline.samplers.focus import FocusSampler
from pipeline.video.timeline import candidate_times
from pipeline.video.unseen import UnseenFrames

HOUR = Video("v.mp4", "f", 3600.0, 25.0, 90000, 64, 48)


@dataclass
class Peaks:
    """Likes the seconds around the peak that a question names; remembers how many frames it is shown in each call."""

    name: str = "peaks"
    fps: float = 1.0
    status: dict[int, Status] = field(default_factory=dict)
    """Of a call, by its number."""
    calls: list[tuple[int, list[str]]] = field(default_factory=list)
    leaves_out: int = 0

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "peaks"}

    def query(self, question: Question) -> str:
        return question.text

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        return video.frame_count * len(questions)

    def score(self, video: Video, frames: Any, questions: Sequence[Question]) -> list[Relevance]:
        times = frames.times_of(frames.indices_at(candidate_times(video, 1.0)))
        status = self.status.get(len(self.calls), Status.OK)
        self.calls.append((len(times), [question.text for question in questions]))
        times = tuple(times[self.leaves_out :])
        found = []
        for each in questions:
            scores = tuple(float(np.exp(-(((time - float(each.text)) / 20) ** 2))) for time in times)
            found.append(Relevance(each.id, times, scores, named_above=None, cost=Cost(1.0)))
        if status is Status.OK:
            return found
        return [replace(each, times=(), scores=(), status=status, detail="sampler.fps=2") for each in found]

    def close(self) -> None:
        pass


def focus(inner: Peaks | None = None, **settings: Any) -> FocusSampler:
    usual = {"fps": 1.0, "arm_seconds": 16.0, "least_arms": 8, "samples": 3, "share": 0.25, "fewest": 4, "seed": 42}
    return FocusSampler(name="focus", inner=inner or Peaks(), **{**usual, **settings})


def ask(*peaks: float) -> list[Question]:
    return [Question(f"q{number}", "v.mp4", str(peak)) for number, peak in enumerate(peaks)]


def scored(sampler: FocusSampler, questions: Sequence[Question], video: Video = HOUR) -> list[Relevance]:
    return sampler.score(video, UnseenFrames(video), questions)


def test_an_hour_costs_less_than_half_of_its_frames() -> None:
    inner = Peaks()
    found = scored(focus(inner), ask(1000, 3000, 1000))
    # 225 arms: 3 x 225 frames for all questions together, then ceil(225 / 4) = 57 arms of 13 others each; questions
    # that find the same arms promising share them.
    assert inner.calls == [(675, ["1000", "3000", "1000"]), (57 * 13, ["1000", "1000"]), (57 * 13, ["3000"])]
    for relevance, peak in zip(found, (1000, 3000, 1000), strict=True):
        assert relevance.times == tuple(range(3600))
        assert relevance.rounds is not None
        rounds = np.array(relevance.rounds)
        assert [int((rounds == number).sum()) for number in (-1, 0, 1)] == [3600 - 675 - 741, 675, 741]
        assert relevance.times[int(np.argmax(relevance.scores))] == peak  # it was not among the first 675
        assert relevance.cost.seconds == 2.0
        assert (relevance.named_above, relevance.status) == (None, Status.OK)
    assert isinstance(focus(), Sampler)
    assert focus().windows(HOUR, ask(1, 2)) == 675 * 2 + 741 * 2


def test_the_middle_of_each_arm_and_two_others_are_read_first_the_same_for_a_seed() -> None:
    one, same, other = (
        np.array(scored(focus(**given), ask(5))[0].rounds).reshape(225, 16) == 0 for given in ({}, {}, {"seed": 1})
    )
    assert (one.sum(axis=1) == 3).all()
    assert one[:, 7].all()
    assert (one == same).all()
    assert (one != other).any()


def test_a_frame_that_is_not_read_has_the_score_of_the_nearest_of_its_arm() -> None:
    relevance = scored(focus(share=0.0, fewest=0), ask(1000))[0]
    assert relevance.rounds is not None
    read = [place for place, number in enumerate(relevance.rounds) if number == 0]
    for place in (0, 15, 16, 1001, 3599):
        arm = [each for each in read if each // 16 == place // 16]
        nearest = min(arm, key=lambda each, place=place: (abs(each - place), each))
        assert relevance.scores[place] == relevance.scores[nearest]
    assert set(relevance.rounds) == {-1, 0}


def test_a_short_video_is_read_whole_in_one_round() -> None:
    inner = Peaks()
    short = replace(HOUR, duration=20.0, frame_count=500)
    (relevance,) = scored(focus(inner), ask(5), short)
    assert inner.calls == [(20, ["5"])]
    assert set(relevance.rounds or ()) == {0}


def test_a_picture_that_stays_on_screen_is_one_candidate() -> None:
    slow = Video("v.mp4", "f", 1000.0, 0.1, 100, 64, 48)
    (relevance,) = scored(focus(), ask(500), slow)
    assert relevance.times == tuple(10.0 * number for number in range(100))
    assert relevance.indices == tuple(range(100))


@pytest.mark.parametrize("number", [0, 1])
def test_a_question_that_fails_in_a_round_fails(number: int) -> None:
    (relevance,) = scored(focus(Peaks(status={number: Status.OUT_OF_MEMORY})), ask(1000))
    assert (relevance.status, relevance.times) == (Status.OUT_OF_MEMORY, ())
    assert relevance.detail == "sampler.inner.fps=2"
    assert relevance.cost.seconds == 1.0 + number


def test_an_inner_sampler_that_leaves_frames_out_is_named() -> None:
    (relevance,) = scored(focus(Peaks(leaves_out=1)), ask(1000))
    assert relevance.status is Status.NO_SCORES
    assert "peaks" in relevance.detail
    with pytest.raises(ConfigError, match="leave out"):
        focus(Peaks(fps=0.5))


@pytest.mark.parametrize(
    "settings", [{"samples": 0}, {"share": 1.5}, {"fewest": -1}, {"seed": -1}, {"arm_seconds": 0.0}]
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    ((key, value),) = settings.items()
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        focus(**settings)
