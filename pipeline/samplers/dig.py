"""Looks at one frame of every scene, and keeps the stretches around those that matter.

Source: DIG, "Divide, then Ground: Adapting Frame Selection to Query Types for Long-Form Video Understanding" (arXiv
2512.04000), and ``cafs.py`` and ``video_refinement.py`` of github.com/Jialuo-Li/DIG. This is its way with localised
questions; ``sampler=route`` tells them from global ones. Two things are other than there: the embeddings by which
scenes are found (DINOv2's, averaged over patches), and the rewards (a model writes a number from 0 to 100 at
temperature 0.7, and a call that fails is a 0). As released, the last scene is never kept whole.

The authors spread the budget evenly over what is kept. ``selection=inverse_transform selection.choice.alpha=0`` does so
too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import InstanceOf
from scipy.signal import find_peaks

from pipeline.artefacts.features import Features, FeatureStore
from pipeline.domain import FrameSource, Question, Relevance, Status, Video
from pipeline.errors import ConfigError, StorageError
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
    under,
)
from pipeline.samplers.kept_frames import KeptFrames
from pipeline.samplers.similarity import SimilaritySampler
from pipeline.video.timeline import candidate_times

Floats = npt.NDArray[np.float64]

_SCENES_A_MINUTE = 4
"""Assumed where a plan has to tell how many frames will be shown."""
_OUTSIDE = -1.0
"""Score of a frame outside of the stretches that are kept; rewards are scaled to 0..100."""


@dataclass(frozen=True)
class DigSampler(Identified):
    """Names the frames of the kept stretches, each with the reward of its scene, from 0 to 100 over the video.

    * A scene ends where the change from a frame to the next, 1 - cosine, peaks with ``prominence`` in its minute. A
      change between two minutes ends none, as in the authors' code.
    * The frame nearest to the middle of each scene gets a reward.
    * Rewards that stand out, by :func:`standing_out`, keep their scene and those around it.
    * Where no reward stands out, all of the video is kept.
    """

    kind: ClassVar[str] = "dig"

    name: Label[str]
    looks: InstanceOf[SimilaritySampler]
    """Of whom only the frames' embeddings are used."""
    rewards: InstanceOf[Sampler]
    """Scores a frame by itself, such as by a probability."""
    prominence: float
    reach: int
    """Boundaries on either side of a scene's beginning up to which the video is kept."""
    last_boundary: Literal["end", "released"]
    """Up to where a stretch may reach: the end of the video, or the beginning of its last scene."""

    def __post_init__(self) -> None:
        if self.prominence < 0:
            raise ConfigError(f"sampler.prominence={self.prominence} is negative.", "Set sampler.prominence=0.1.")
        if self.reach < 1:
            raise ConfigError(f"sampler.reach={self.reach} keeps nothing.", "Set sampler.reach=2.")
        check_is_shown_all("rewards", self.rewards)

    def query(self, question: Question) -> str:
        """The query of the sampler that gives the rewards."""
        return self.rewards.query(question)

    def check(self, questions: Sequence[Question]) -> None:
        """The sampler that gives the rewards checks its questions.

        Raises:
            InputError: it cannot score them.
        """
        check_inner("rewards", self.rewards, questions)

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """Those by which scenes are found."""
        return True

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        """Those of both samplers, with four scenes a minute."""
        scenes = max(1, round((video.duration - video.start) / 60 * _SCENES_A_MINUTE))
        shown = of_length(video, min(scenes, len(candidate_times(video, self.looks.fps))))
        return planned(self.looks, video, questions) + planned(self.rewards, shown, questions)

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question, in their order. A question that fails with either sampler has its status.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: a model cannot be loaded.
            StorageError: embeddings cannot be kept.
        """
        with overrides_under("looks"):
            looked = self.looks.score(video, frames, questions)
        found = {
            number: replace(each, detail=under("looks", each.detail), features=None)
            for number, each in enumerate(looked)
            if not each.status.has_scores
        }
        asked = [number for number in range(len(questions)) if number not in found]
        if asked:
            features = self._features(looked[asked[0]].features)
            bounds = boundaries(features, self.prominence)
            middles = middles_of(np.array(features.times), bounds)
            shown = np.unique(middles)
            kept = KeptFrames(video, frames, tuple(features.times[place] for place in shown))
            with overrides_under("rewards"):
                scored = self.rewards.score(kept.video, kept, [questions[number] for number in asked])
            for number, relevance in zip(asked, scored, strict=True):
                rewarded = of_every_frame(relevance, np.array(features.times)[shown], "rewards", self.rewards.name)
                rewarded = replace(
                    rewarded,
                    cost=cost_of_both(looked[number].cost, rewarded.cost),
                    alone=cost_of_both(alone(looked[number]), alone(rewarded)),
                )
                if rewarded.times:
                    rewards = np.array(rewarded.scores)[np.searchsorted(shown, middles)]
                    rewarded = self._named(rewarded, looked[number], bounds, rewards)
                found[number] = rewarded
        return [found[number] for number in range(len(questions))]

    def close(self) -> None:
        """Free both models."""
        self.looks.close()
        self.rewards.close()

    def _features(self, key: str | None) -> Features:
        features = FeatureStore(self.looks.feature_store).find(key) if key is not None else None
        if features is None:
            raise StorageError(
                f"the embeddings that were just kept in {self.looks.feature_store} are gone",
                "keep them where nothing removes them: paths.cache=ANOTHER_FOLDER",
            )
        return features

    def _named(self, rewarded: Relevance, looked: Relevance, bounds: Sequence[int], rewards: Floats) -> Relevance:
        """All candidates: those in the kept stretches with the reward of their scene."""
        scaled = percentages(rewards)
        kept = np.zeros(len(looked.times), dtype=np.bool_)
        for first, last in stretches(scaled, bounds, self.reach, self.last_boundary):
            kept[first : last + 1] = True
        scene = np.searchsorted(bounds[1:-1], np.arange(len(kept)), side="right")
        pool = {"pool": float(len(kept))}
        assert rewarded.alone is not None
        return replace(
            rewarded,
            times=looked.times,
            scores=tuple(np.where(kept, scaled[scene], _OUTSIDE).tolist()),
            indices=looked.indices,
            named_above=_OUTSIDE,
            status=Status.OK if rewarded.status is Status.NOTHING_RELEVANT else rewarded.status,
            detail=under("rewards", rewarded.detail),
            features=looked.features,
            cost=replace(rewarded.cost, more={**rewarded.cost.more, **pool}),
            alone=replace(rewarded.alone, more={**rewarded.alone.more, **pool}),
        )


def boundaries(features: Features, prominence: float) -> list[int]:
    """Positions where scenes begin, and the last position: ``[0, ..., frames - 1]``."""
    times = np.array(features.times)
    vectors = features.vectors / np.maximum(np.linalg.norm(features.vectors, axis=1, keepdims=True), 1e-12)
    changes = 1.0 - np.einsum("nd,nd->n", vectors[:-1], vectors[1:])
    minutes = max(1, math.ceil((times[-1] - times[0]) / 60))
    edges = np.searchsorted(times, np.linspace(times[0], times[-1], minutes + 1)[1:-1])
    found = [0]
    for first, end in zip([0, *edges], [*edges, len(times)], strict=True):
        peaks, _ = find_peaks(changes[first : end - 1], prominence=prominence)
        found += [int(first + peak) for peak in peaks]
    return [*found, len(times) - 1]


def middles_of(times: Floats, bounds: Sequence[int]) -> npt.NDArray[np.intp]:
    """The position of the frame nearest to the middle of each scene's time, the earlier one of two."""
    edges = times[np.asarray(bounds)]
    return np.array([np.abs(times - middle).argmin() for middle in (edges[:-1] + edges[1:]) / 2])


def percentages(rewards: Floats) -> Floats:
    """Rewards scaled to 0..100; all 0 where they are equal."""
    low, high = rewards.min(), rewards.max()
    scaled: Floats = (rewards - low) / (high - low) * 100 if high > low else np.zeros_like(rewards)
    return scaled


def standing_out(rewards: Floats) -> Floats:
    """What is left of positive rewards above a threshold, by the stricter of two rules.

    The first subtracts the mean, again and again, until no reward falls to 0 that was above it before. The second
    subtracts half of the maximum. The one that leaves fewer rewards above 0 counts; the first, if both leave as many.
    """
    first, zeros = rewards, -1
    while np.sum(first == 0) != zeros:
        zeros = int(np.sum(first == 0))
        first = np.maximum(first - first.mean(), 0)
    second = np.maximum(rewards - 0.5 * rewards.max(), 0)
    return first if np.sum(first > 0) <= np.sum(second > 0) else second


def stretches(
    rewards: Floats, bounds: Sequence[int], reach: int, last_boundary: Literal["end", "released"]
) -> list[tuple[int, int]]:
    """The parts of the video that are kept, as first and last position; all of it where no reward stands out.

    Args:
        rewards: of the scenes, from 0.
        bounds: where scenes begin, and the end of the last one.
        reach: boundaries on either side of a scene's beginning.
        last_boundary: that may be reached; the authors' code has the beginning of the last scene.
    """
    positive = np.flatnonzero(rewards > 0)
    # A single one is kept whatever the rules say: the mean of one number is itself.
    left = rewards[positive] if len(positive) == 1 else standing_out(rewards[positive]) if len(positive) else positive
    last = len(rewards) if last_boundary == "end" else len(rewards) - 1
    kept: list[tuple[int, int]] = []
    for scene in positive[left > 0]:
        first, end = bounds[max(scene - reach, 0)], bounds[min(scene + reach, last)]
        if kept and first <= kept[-1][1]:
            kept[-1] = kept[-1][0], max(kept[-1][1], end)
        else:
            kept.append((first, end))
    return kept or [(bounds[0], bounds[-1])]
