"""Scores few frames of every stretch of time, then all frames of the most promising ones.

Source: FOCUS, "Efficient Keyframe Selection for Long Video Understanding" (arXiv 2510.27280), and ``focus.py`` of
github.com/NUS-HPC-AI-Lab/FOCUS. The stretches are the arms of a bandit, and an arm is promising by the upper bound of
its mean score. Of a video of D seconds, 3 D / 16 + D / 4 frames are scored instead of D. ``selection=focus`` is its
last step, and says what was wrong with it as released; any other policy can follow too.

Here candidates are those of a fixed rate, of which an arm is read whole in the second round. The released code draws as
many native frames, half of them evenly and half at random. It scores by BLIP-ITM, which is not among the samplers here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import InstanceOf

from pipeline.domain import FrameSource, Question, Relevance, Video
from pipeline.errors import ConfigError
from pipeline.identity import Identified, Label
from pipeline.ledger import alone
from pipeline.samplers import Sampler
from pipeline.samplers.inner import (
    check_inner,
    check_is_shown_all,
    cost_of_both,
    of_every_frame,
    of_length,
    overrides_under,
    planned,
    status_of_all,
    under,
)
from pipeline.samplers.kept_frames import KeptFrames
from pipeline.selection.choice import Floats
from pipeline.selection.focus import arms_of, best_arms, check_arms, estimates, upper_bounds
from pipeline.video.timeline import candidate_times

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class FocusSampler(Identified):
    """Another sampler's scores of the frames that it is shown in two rounds.

    In the first round it is shown the middle and some random frames of each arm, in the second all others of the arms
    with the highest :func:`upper_bounds`. Frames that it is not shown have the score of the nearest one of their arm
    that it is, and -1 as their round.
    """

    kind: ClassVar[str] = "focus"

    name: Label[str]
    inner: InstanceOf[Sampler]
    """Scores a frame by itself, as similarities and probabilities are."""
    fps: float
    """Candidate frames a second."""
    arm_seconds: float
    least_arms: int
    samples: int
    """Frames of an arm in the first round: its middle, and random ones."""
    share: float
    """Share of the arms that are read whole."""
    fewest: int
    """Arms that are read whole, at least."""
    seed: int

    def __post_init__(self) -> None:
        check_arms("sampler", self.arm_seconds, self.least_arms)
        given = {
            "samples": (self.samples >= 1, "3"),
            "share": (0 <= self.share <= 1, "0.25"),
            "fewest": (self.fewest >= 0, "4"),
            "seed": (self.seed >= 0, "42"),
        }
        for key, (is_valid, usual) in given.items():
            if not is_valid:
                raise ConfigError(f"sampler.{key}={getattr(self, key)} is out of range.", f"Set sampler.{key}={usual}.")
        check_is_shown_all("inner", self.inner)

    def query(self, question: Question) -> str:
        """The query of the inner sampler."""
        return self.inner.query(question)

    def check(self, questions: Sequence[Question]) -> None:
        """The inner sampler checks its questions.

        Raises:
            InputError: it cannot score them.
        """
        check_inner("inner", self.inner, questions)

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """False: most frames are not shown to the inner sampler."""
        return False

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        """Those of the inner sampler: for the first round together, for the second by question."""
        arms = arms_of(np.array(candidate_times(video, self.fps)), self.arm_seconds, self.least_arms)
        first = sum(min(len(arm), self.samples) for arm in arms)
        second = sum(max(len(arm) - self.samples, 0) for arm in arms[: self._zoomed(arms)])
        return planned(self.inner, of_length(video, first), questions) + sum(
            planned(self.inner, of_length(video, second), [each]) for each in questions if second
        )

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question, in their order. A question that fails in a round has the status of that round.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: a model cannot be loaded.
        """
        indices = tuple(dict.fromkeys(frames.indices_at(candidate_times(video, self.fps))))
        times = np.array(frames.times_of(indices))
        arms = arms_of(times, self.arm_seconds, self.least_arms)
        coarse = self._first_round(arms)
        found: dict[int, Relevance] = {}
        again: dict[tuple[int, ...], list[int]] = {}
        first = self._read(video, frames, times[coarse], questions)
        for number, one in enumerate(first):
            if one.times:
                again.setdefault(self._second_round(arms, coarse, np.array(one.scores)), []).append(number)
            else:
                found[number] = one
        blank = Relevance("", tuple(times.tolist()), (), indices)
        for places, numbers in again.items():
            fine = np.array(places, dtype=np.intp)
            second = self._read(video, frames, times[fine], [questions[number] for number in numbers])
            for number, two in zip(numbers, second, strict=True):
                found[number] = _joined(blank, arms, (coarse, fine), (first[number], two))
        return [found[number] for number in range(len(questions))]

    def close(self) -> None:
        """Free the inner sampler."""
        self.inner.close()

    def _zoomed(self, arms: Sequence[range]) -> int:
        return min(max(math.ceil(self.share * len(arms)), self.fewest), len(arms))

    def _first_round(self, arms: Sequence[range]) -> Places:
        """Positions, ascending: of each arm its middle, and random ones. The same for all questions."""
        generator = np.random.default_rng(self.seed)
        picked: list[int] = []
        for arm in arms:
            middle = (arm.start + arm.stop - 1) // 2
            others = [place for place in arm if place != middle]
            count = min(self.samples - 1, len(others))
            picked += [middle, *(int(each) for each in generator.choice(others, count, replace=False) if count)]
        return np.sort(np.array(picked, dtype=np.intp))

    def _second_round(self, arms: Sequence[range], coarse: Places, scores: Floats) -> tuple[int, ...]:
        """Positions, ascending: what is left of the most promising arms."""
        samples = [scores[(coarse >= arm.start) & (coarse < arm.stop)] for arm in arms]
        zoomed = best_arms(upper_bounds(samples))[: self._zoomed(arms)]
        return tuple(sorted({place for number in zoomed for place in arms[number]} - {*coarse.tolist()}))

    def _read(self, video: Video, frames: FrameSource, times: Floats, questions: Sequence[Question]) -> list[Relevance]:
        """The inner sampler's relevances of the frames at these times, or failures without times."""
        if not len(times):
            return [Relevance(each.id, (), ()) for each in questions]
        kept = KeptFrames(video, frames, tuple(times.tolist()))
        with overrides_under("inner"):
            scored = self.inner.score(kept.video, kept, questions)
        return [of_every_frame(relevance, times, "inner", self.inner.name) for relevance in scored]


def _joined(
    blank: Relevance, arms: Sequence[range], places: Sequence[Places], rounds: Sequence[Relevance]
) -> Relevance:
    """One relevance of all candidates: scores of both rounds, and estimates."""
    one, two = rounds
    pool = {"pool": float(len(blank.times))}
    cost, whole = (
        replace(each, more={**each.more, **pool})
        for each in (cost_of_both(one.cost, two.cost), cost_of_both(alone(one), alone(two)))
    )
    if len(places[1]) and not two.times:
        return replace(two, cost=cost, alone=whole)
    parts = [one, two] if two.times else [one]
    known = np.concatenate(places)
    order = np.argsort(known)
    scores = np.concatenate([np.array(part.scores) for part in rounds])[order]
    in_round = np.full(len(blank.times), -1)
    in_round[places[0]], in_round[places[1]] = 0, 1
    known = known[order]
    every = np.empty(len(blank.times))
    for arm in arms:
        inside = (known >= arm.start) & (known < arm.stop)
        every[arm.start : arm.stop] = estimates(np.arange(arm.start, arm.stop), known[inside], scores[inside])
    return replace(
        blank,
        question_id=one.question_id,
        scores=tuple(every.tolist()),
        rounds=tuple(in_round.tolist()),
        named_above=one.named_above,
        status=status_of_all(parts),
        detail="; ".join(dict.fromkeys(under("inner", part.detail) for part in parts if part.detail)),
        windows=tuple(window for part in parts for window in part.windows),
        cost=cost,
        alone=whole,
    )
