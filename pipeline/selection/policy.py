"""From a relevance and a budget to a selection. Shared by all policies, which differ in their choice.

Source: GenS (arXiv 2503.09146) and its evaluation code for everything except the choice. There, frames of equal score
are shuffled without a seed, a video whose candidate frames fit the budget is not sampled at all, and one answerer's
path fills up with random picks from K uniform frames. Here, ties, filling and what happens after a failure are
settings, and the same relevance gives the same selection each time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import InstanceOf

from pipeline.domain import FrameOrigin, Relevance, SelectedFrame, Selection, Status, Video
from pipeline.errors import ConfigError, FunctionError, InputError, with_remedy
from pipeline.identity import Identified, Label
from pipeline.selection.choice import Choice, Curve
from pipeline.selection.embeddings import key_of
from pipeline.selection.native import native_index, native_time
from pipeline.selection.ranking import Ties, best_first
from pipeline.selection.uniform import UniformVariant, known_variant, spread

NOT_THE_SAMPLERS = frozenset({Status.INVALID_QUESTION, Status.MISSING_VIDEO, Status.UNREADABLE_VIDEO})
"""Failures for which other frames would not help."""


class Unsized(Identified, ABC):
    """A policy that says which frames are shown and leaves their size to others, so that another one may hold it."""

    budget: int
    """K, in frames."""

    @abstractmethod
    def select(self, relevance: Relevance, video: Video) -> Selection:
        """As :class:`pipeline.selection.SelectionPolicy` has it."""


@dataclass(frozen=True)
class Policy(Unsized):
    """At most ``budget`` frames in order of time, each native frame once.

    * A frame is chosen for its score only if it is named (``Relevance.named_above``), and there are
      min(budget, frames named) of them whatever the policy: ``choice`` says which, and where it takes too few, the best
      scores left over follow.
    * A failed relevance is never ranked: whatever scores it carries, ``fallback`` alone decides.
    * A relevance that names a uniform variant instead of scores is spread over the native frames in that variant.
    """

    name: Label[str]
    budget: int
    """K, in frames."""
    choice: InstanceOf[Choice]
    """Which of the named frames are selected when not all of them fit."""
    ties: Ties
    """Which of equal scores are selected when not all of them fit: the earliest, or those farthest in time from all
    that are chosen already. GenS has five scores, so most budgets end within a tie."""
    fits: Literal["all", "named"]
    """The selection from a video whose candidates all fit the budget: all of them, as GenS's authors do (those not
    named with source ``uniform``), or only the named ones."""
    fill: Literal["none", "uniform"]
    """What happens with the rest of the budget if too few frames are named: nothing, or it is filled (source ``fill``)
    from the K frames of ``uniform``, farthest first from all chosen ones."""
    fallback: Literal["none", "uniform"]
    """What is shown if the sampler failed or named nothing: nothing, or the K frames of ``uniform`` (source
    ``fill``). The sampler's status stays in the record either way. No fallback helps an unreadable video or a question
    without text."""
    uniform: UniformVariant
    """The variant that ``fill`` and ``fallback`` use."""

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ConfigError(
                f"selection.budget={self.budget} selects no frame, so nothing could be answered",
                "set it to how many frames the answerer is to see: selection.budget=8",
            )

    def select(self, relevance: Relevance, video: Video) -> Selection:
        """Select the frames of one question. No video is opened.

        Raises:
            ConfigError: the policy needs embeddings, which this sampler does not keep.
            InputError: the relevance names a uniform variant that does not exist.
        """
        if relevance.spread is not None:
            return self._spread(relevance, video)
        if relevance.status.has_scores and self.choice.needs_embeddings:
            key_of(relevance.features)  # checked for every video, also one without frames to choose from
        frames: list[SelectedFrame] = []
        if relevance.status is Status.NOTHING_RELEVANT or relevance.status.has_scores:
            try:
                frames = self._chosen(relevance, video)
            except InputError as error:
                relevance = replace(relevance, status=Status.NO_FRAMES, detail=str(error))
            except FunctionError as error:
                return Selection(
                    relevance.question_id, (), str(self), self.budget, status=error.status, detail=str(error)
                )
        if not frames and self.fallback == "uniform" and relevance.status not in NOT_THE_SAMPLERS:
            frames = self._stand_ins(video, ())
        elif frames and self.fill == "uniform":
            frames += self._stand_ins(video, frames)
        return self._selection(relevance, video, frames, str(self))

    def __str__(self) -> str:
        settings = {**self.choice.identity(), **self._shared_settings()}
        kind = settings.pop("kind", type(self.choice).__name__)
        return " ".join([str(kind), *_words(settings)])

    def _shared_settings(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("budget", "ties", "fits", "fill", "fallback", "uniform")}

    def _spread(self, relevance: Relevance, video: Video) -> Selection:
        assert relevance.spread is not None
        variant = known_variant(relevance.spread, relevance.question_id)
        indices = spread(video.frame_count, self.budget, variant)
        frames = [SelectedFrame(native_time(index, video), index, None, FrameOrigin.UNIFORM) for index in indices]
        return self._selection(relevance, video, frames, f"uniform {variant} budget={self.budget}")

    def _chosen(self, relevance: Relevance, video: Video) -> list[SelectedFrame]:
        """The named frames that fit the budget, or all candidates where they do."""
        candidates = candidates_of(relevance, video)
        threshold = -math.inf if relevance.named_above is None else relevance.named_above
        named = [place for place, candidate in enumerate(candidates) if candidate.score > threshold]
        if self.fits == "all" and len(candidates) <= self.budget:
            return [_frame(candidate, candidate.score > threshold) for candidate in candidates]
        if len(named) > self.budget:
            named = self._best(candidates, named, relevance)
        return [_frame(candidates[place], True) for place in named]

    def _best(self, candidates: Sequence[Candidate], named: Sequence[int], relevance: Relevance) -> list[int]:
        """``budget`` of the ``named`` positions: the policy's own choice, then the best remaining scores."""
        mask = np.zeros(len(candidates), dtype=np.bool_)
        mask[named] = True
        curve = Curve(
            times=np.array([candidate.time for candidate in candidates]),
            scores=np.array([candidate.score for candidate in candidates]),
            named=mask,
            ties=self.ties,
            features=relevance.features,
            rounds=None if relevance.rounds is None else np.array([candidate.round for candidate in candidates]),
        )
        picked = list(self.choice.choose(curve, self.budget))
        return picked + curve.best(self.budget - len(picked), chosen=picked)

    def _stand_ins(self, video: Video, chosen: Sequence[SelectedFrame]) -> list[SelectedFrame]:
        """Uniform frames for the rest of the budget, without those that are chosen already."""
        taken = {frame.index for frame in chosen}
        grid = [index for index in spread(video.frame_count, self.budget, self.uniform) if index not in taken]
        times = [native_time(index, video) for index in grid]
        room = self.budget - len(chosen)
        picked = best_first(times, [0.0] * len(grid), room, "spread", [frame.time for frame in chosen])
        return [SelectedFrame(times[place], grid[place], None, FrameOrigin.FILL) for place in picked]

    def _selection(self, relevance: Relevance, video: Video, frames: Iterable[SelectedFrame], policy: str) -> Selection:
        ordered = tuple(sorted(frames, key=lambda frame: frame.index))
        status, detail = relevance.status, relevance.detail
        if not ordered and status is Status.OK:
            status = Status.NO_FRAMES
            detail = "the sampler named no frame" if video.frame_count else "the video has no frames"
        if not ordered and video.frame_count and status not in NOT_THE_SAMPLERS and self.fallback == "none":
            advice = "show such questions uniform frames: selection.fallback=uniform"
            has_remedy = with_remedy("", "") in detail
            detail = (
                f"{detail}; or {advice}" if has_remedy else with_remedy(detail or "there is no frame to show", advice)
            )
        return Selection(relevance.question_id, ordered, policy, self.budget, status, detail)


def _words(settings: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """``key=value`` of each setting; those of a part as they are typed: ``balance.coverage=0.5``."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _words({name: each for name, each in value.items() if name != "kind"}, f"{within}{key}.")
        else:
            yield f"{within}{key}={value}"


class Candidate(NamedTuple):
    """A native frame that the sampler has scored."""

    time: float
    native: int
    score: float
    round: int
    """Of the sampler, see :attr:`Relevance.rounds`."""


def candidates_of(relevance: Relevance, video: Video) -> list[Candidate]:
    """The candidates in order of time; of several for one native frame, the one with the best score."""
    best: dict[int, Candidate] = {}
    if video.frame_count:
        indices = relevance.indices or tuple(native_index(time, video) for time in relevance.times)
        rounds = relevance.rounds or (0,) * len(relevance.times)
        for time, score, native, number in zip(relevance.times, relevance.scores, indices, rounds, strict=True):
            if native not in best or score > best[native].score:
                best[native] = Candidate(time, native, score, number)
    return [best[native] for native in sorted(best)]


def _frame(candidate: Candidate, named: bool) -> SelectedFrame:
    if named:
        return SelectedFrame(candidate.time, candidate.native, candidate.score, FrameOrigin.SAMPLER)
    return SelectedFrame(candidate.time, candidate.native, None, FrameOrigin.UNIFORM)
