"""One frame of every scene is looked at, and what lies around the good ones is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artefacts.features import Features, FeatureStore
from pipeline.domain import Cost, Question, Relevance, Status, Video
from pipeline.errors import ConfigError
from pipeline.samplers import Sampler
from pipeline.samplers.dig import DigSampler, boundaries, middles_of, percentages, standing_out, stretches
from pipeline.video.timeline import candidate_times
from pipeline.video.unseen import UnseenFrames

REWARDS = percentages(np.array([0.0, 10, 80, 20, 0, 0, 60, 5]))
BOUNDS = [*range(0, 800, 100), 799]
VIDEO = Video("v.mp4", "f", 56.0, 10.0, 560, 64, 48)


def test_what_stands_out_by_hand() -> None:
    # 12.5 100 25 75 6.25, mean 43.75: 0 56.25 0 31.25 0, mean 17.5: 0 38.75 0 13.75 0, and no new 0. Half of the
    # maximum: 0 50 0 25 0. Both leave two, so the first counts.
    assert standing_out(REWARDS[REWARDS > 0]).tolist() == [0, 38.75, 0, 13.75, 0]
    # Mean 19.7: 80.3 25.3 25.3, mean 13.09: three are left. Half of the maximum leaves one.
    assert standing_out(np.array([100.0, 45, 45, *[1] * 7])).tolist() == [50, *[0] * 9]


def test_stretches_by_hand() -> None:
    # Scenes 2 and 6: boundaries 0 to 400, and 400 to the last but one, 700; merged.
    assert stretches(REWARDS, BOUNDS, 2, "released") == [(0, 700)]
    assert stretches(REWARDS, BOUNDS, 2, "end") == [(0, 799)]
    assert stretches(REWARDS, BOUNDS, 1, "end") == [(100, 300), (500, 700)]
    assert stretches(np.zeros(8), BOUNDS, 2, "released") == [(0, 799)]
    one = np.array([0.0, 0, 0, 0, 0, 0, 0, 100])
    assert stretches(one, BOUNDS, 2, "released") == [(500, 700)]
    assert stretches(one, BOUNDS, 2, "end") == [(500, 799)]


def test_scenes_end_where_the_change_peaks() -> None:
    # Two frames a second: scenes of 10, 30, 20 and 60 s. The change is from the frame before the boundary to it.
    looks = np.repeat(np.eye(4), [20, 60, 40, 120], axis=0)
    features = Features(tuple(number / 2 for number in range(240)), looks.astype(np.float32))
    assert boundaries(features, 0.1) == [0, 19, 79, 239]  # 119 is the last of its minute, where no peak can be
    assert boundaries(features, 1.5) == [0, 239]
    assert middles_of(np.array(features.times), [0, 19, 79, 239]).tolist() == [9, 49, 159]
    assert boundaries(Features((3.0,), looks[:1].astype(np.float32)), 0.1) == [0, 0]


@dataclass
class Looks:
    """Embeds eight scenes of seven seconds."""

    feature_store: Path
    name: str = "looks"
    fps: float = 1.0
    status: Status = Status.OK

    def score(self, video: Video, frames: Any, questions: Sequence[Question]) -> list[Relevance]:
        times = candidate_times(video, self.fps)
        FeatureStore(self.feature_store).keep("key", Features(times, np.repeat(np.eye(8), 7, axis=0)))
        scored = [Relevance(each.id, times, (0.0,) * len(times), features="key", cost=Cost(1.0)) for each in questions]
        failed = [Relevance(each.id, (), (), status=self.status, detail="sampler.fps=1") for each in questions]
        return scored if self.status is Status.OK else failed

    def close(self) -> None:
        pass


@dataclass
class Rewards:
    """Likes the scenes that a question names by their numbers, and no other."""

    name: str = "rewards"
    rise: float = 0.01
    """From scene to scene: equal rewards do not stand out."""
    status: Status = Status.OK
    shown: list[list[float]] = field(default_factory=list)

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "rewards"}

    def query(self, question: Question) -> str:
        return question.text

    def score(self, video: Video, frames: Any, questions: Sequence[Question]) -> list[Relevance]:
        times = tuple(frames.times_of(frames.indices_at(candidate_times(video, 1.0))))
        self.shown.append(list(times))
        found = []
        for each in questions:
            scenes = [int(time // 7) for time in times]
            scores = tuple((0.6 if str(scene) in each.text else 0.1) + scene * self.rise for scene in scenes)
            found.append(Relevance(each.id, times, scores, named_above=None, cost=Cost(2.0)))
        return (
            [replace(each, times=(), scores=(), status=self.status) for each in found]
            if self.status.value != "ok"
            else found
        )

    def close(self) -> None:
        pass


def dig(folder: Path, rewards: Any = None, **settings: Any) -> DigSampler:
    given: dict[str, Any] = {"looks": Looks(folder), "prominence": 0.1, "reach": 1, "last_boundary": "end", **settings}
    return DigSampler(name="dig", rewards=rewards or Rewards(), **given)


def scored(sampler: DigSampler, *texts: str) -> list[Relevance]:
    questions = [Question(f"q{number}", "v.mp4", text) for number, text in enumerate(texts)]
    return sampler.score(VIDEO, UnseenFrames(VIDEO), questions)


def test_the_middle_of_each_scene_is_looked_at_once_for_all_questions(tmp_path: Path) -> None:
    rewards = Rewards()
    (two,) = scored(dig(tmp_path, rewards), "scene 2 or 5")
    # Boundaries 0 6 13 20 27 34 41 48 55: the frames before each change, and the ends.
    assert rewards.shown == [[3.0, 9.0, 16.0, 23.0, 30.0, 37.0, 44.0, 51.0]]
    assert (two.named_above, two.features, two.cost.seconds) == (-1.0, "key", 3.0)
    assert two.times == tuple(range(56))
    named = [time for time, score in zip(two.times, two.scores, strict=True) if score > -1]
    assert named == [*range(6, 21), *range(27, 42)]
    assert two.scores[35] == 100
    assert two.scores[15] == pytest.approx(100 * 52 / 55)  # 0.62 of 0.1 to 0.65
    assert (two.scores[8], two.scores[3]) == (pytest.approx(100 * 1 / 55), -1)
    (all_alike,) = scored(dig(tmp_path, Rewards(rise=0.0)), "none")
    assert set(all_alike.scores) == {0.0}
    assert isinstance(dig(tmp_path), Sampler)


def test_a_question_that_fails_with_either_sampler_fails(tmp_path: Path) -> None:
    (unseen,) = scored(dig(tmp_path, looks=Looks(tmp_path, status=Status.OUT_OF_MEMORY)), "2")
    assert (unseen.status, unseen.detail) == (Status.OUT_OF_MEMORY, "sampler.looks.fps=1")
    (unrated,) = scored(dig(tmp_path, Rewards(status=Status.OUT_OF_MEMORY)), "2")
    assert (unrated.status, unrated.times, unrated.cost.seconds) == (Status.OUT_OF_MEMORY, (), 3.0)


@pytest.mark.parametrize("settings", [{"prominence": -1.0}, {"reach": 0}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    ((key, value),) = settings.items()
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        dig(tmp_path, **settings)
