"""Frames drawn by their scores, the first of them large and the later ones ever smaller.

Source: Q-Frame (arXiv 2506.22139) and its released code: over 128 uniform frames, ``log softmax(s / 0.8)`` plus Gumbel
noise gives a ranking without replacement; ranks 1 to 4 are shown at half of each side, 5 to 12 at a quarter, 13 to 44
at an eighth. That costs as much as 4 + 8 / 4 + 32 / 16 = 8 frames of half a side. The noise there has no seed, and
after any error it takes random frames without a word; here the seed is a setting, and a failure has its status.

Its scores are dot products of LongCLIP that are not normalised. Ours are cosines, which noise at 0.8 would drown. So
scores are multiplied by ``score_scale`` first. 100 is CLIP's own factor for logits, and choosing it is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import ClassVar, Literal

import numpy as np

from pipeline.domain import FrameOrigin, Relevance, SelectedFrame, Selection, Status, Video
from pipeline.errors import ConfigError, with_remedy
from pipeline.identity import Identified, Label, digest
from pipeline.selection.evenly import evenly, variant_of
from pipeline.selection.policy import NOT_THE_SAMPLERS, candidates_of
from pipeline.selection.ranking import best_first
from pipeline.selection.sizes import Size, check_scale
from pipeline.selection.uniform import UniformVariant, spread


@dataclass(frozen=True)
class Tier:
    """Ranks that are shown in one size."""

    frames: int
    scale: float
    """Factor on each side."""


@dataclass(frozen=True)
class QFrame(Identified):
    """``budget`` frames at most, the sizes by rank.

    Where there are no scores (``sampler=uniform``, or the fallback), frames are spread evenly and ranked by distance:
    each is the one farthest in time from those before it. Constant scores leave the draw to the noise.
    """

    kind: ClassVar[str] = "q_frame"

    name: Label[str]
    budget: int
    pool: int | None
    """Candidates that are drawn from, spread evenly over all of them; None: all."""
    temperature: float
    score_scale: float
    """What one of a score is worth before it is divided by the temperature."""
    seed: int
    """Of the noise, together with the video and the question's id."""
    tiers: tuple[Tier, ...]
    """From the first rank on."""
    fallback: Literal["none", "uniform"]
    """As of :class:`pipeline.selection.policy.Policy`."""
    uniform: UniformVariant
    """The variant of the fallback."""

    def __post_init__(self) -> None:
        for number, tier in enumerate(self.tiers):
            check_scale(tier.scale, f"tiers.{number}.scale")
        most = sum(tier.frames for tier in self.tiers)
        if not 1 <= self.budget <= most:
            raise ConfigError(
                f"selection.budget={self.budget}, and selection.tiers has sizes for 1 to {most} frames",
                f"set selection.budget={most}",
            )
        if self.pool is not None and self.pool < self.budget:
            raise ConfigError(
                f"selection.pool={self.pool} candidates are fewer than selection.budget={self.budget}",
                f"set selection.pool={4 * self.budget}, or null for all of them",
            )
        if not self.temperature > 0:
            raise ConfigError(
                f"selection.temperature={self.temperature:g}: scores are divided by it", "set selection.temperature=0.8"
            )

    def select(self, relevance: Relevance, video: Video) -> Selection:
        """The frames of one question. No video is opened."""
        status, detail = relevance.status, relevance.detail
        if relevance.spread is not None:
            ranked = self._even(video, variant_of(relevance, self.uniform), FrameOrigin.UNIFORM)
        elif status.has_scores and (drawn := self._drawn(relevance, video)):
            ranked = drawn
        elif self.fallback == "uniform" and status not in NOT_THE_SAMPLERS:
            ranked = self._even(video, self.uniform, FrameOrigin.FILL)
        else:
            ranked = []
        if not ranked and status is Status.OK:
            status, detail = Status.NO_FRAMES, with_remedy("the sampler named no frame", "selection.fallback=uniform")
        frames = [
            SelectedFrame(frame.time, frame.index, frame.score, frame.source, scale)
            for frame, scale in zip(ranked, self._scales(), strict=False)
        ]
        ordered = tuple(sorted(frames, key=lambda frame: frame.index))
        return Selection(relevance.question_id, ordered, str(self), self.budget, status, detail)

    def sizes(self, video: Video) -> Sequence[Size]:
        """By tier, as far as the budget and the video go."""
        left, found = min(self.budget, video.frame_count), []
        for tier in self.tiers:
            if left > 0:
                found.append(Size(min(tier.frames, left), tier.scale))
                left -= tier.frames
        return tuple(found)

    def _drawn(self, relevance: Relevance, video: Video) -> list[SelectedFrame]:
        """The named candidates of the pool by rank. The softmax's sum changes no rank, and is left out."""
        candidates = candidates_of(relevance, video)
        threshold = -math.inf if relevance.named_above is None else relevance.named_above
        places = range(len(candidates)) if self.pool is None else spread(len(candidates), self.pool, "linspace")
        pool = [candidates[place] for place in places if candidates[place].score > threshold]
        seed = int(digest([self.seed, video.fingerprint, relevance.question_id]), 16)
        noise = np.random.default_rng(seed).gumbel(size=len(pool))
        scores = np.array([candidate.score for candidate in pool])
        order = np.argsort(-(scores * self.score_scale / self.temperature + noise), kind="stable")
        drawn = [pool[place] for place in order[: self.budget]]
        return [SelectedFrame(each.time, each.native, each.score, FrameOrigin.SAMPLER) for each in drawn]

    def _even(self, video: Video, variant: UniformVariant, source: FrameOrigin) -> list[SelectedFrame]:
        frames = evenly(video, self.budget, variant, None)
        times = [frame.time for frame in frames]
        order = best_first(times, [0.0] * len(frames), len(frames), "spread")
        return [SelectedFrame(times[place], frames[place].index, None, source) for place in order]

    def _scales(self) -> Iterator[float]:
        """By rank."""
        return chain.from_iterable(repeat(tier.scale, tier.frames) for tier in self.tiers)

    def __str__(self) -> str:
        tiers = "+".join(f"{tier.frames}@{tier.scale:g}" for tier in self.tiers)
        settings = ("pool", "temperature", "score_scale", "seed", "fallback", "uniform")
        return " ".join(
            [f"{self.kind} budget={self.budget} tiers={tiers}", *(f"{key}={getattr(self, key)}" for key in settings)]
        )
