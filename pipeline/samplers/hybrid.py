"""Two samplers in sequence: a cheap one keeps the best candidates, and an expensive one scores only these.

GenS does so for very long videos (arXiv 2503.09146): CLIP keeps the best 256 frames of the 1 fps pool, and one pass of
GenS runs over them in order of time.

The second sampler is shown a video that consists of the kept frames, one a second; the times that it reports are the
frames' own. Each question has kept frames of its own, so questions cannot share what the second sampler makes of them;
those that keep the same frames do, as all do where there are no more candidates than may be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import InstanceOf

from pipeline.domain import FrameSource, Question, Relevance, Status, Video
from pipeline.errors import ConfigError
from pipeline.identity import Identified, Label
from pipeline.ledger import alone
from pipeline.samplers import ChecksWindows, Sampler
from pipeline.samplers.inner import check_inner, cost_of_both, overrides_under, planned, under
from pipeline.samplers.kept_frames import KeptFrames
from pipeline.video.timeline import candidate_times


@dataclass(frozen=True)
class HybridSampler(Identified):
    """The second sampler's scores of the frames that the first one scores highest."""

    kind: ClassVar[str] = "hybrid"

    name: Label[str]
    first: InstanceOf[Sampler]
    second: InstanceOf[Sampler]
    keep: int
    """Frames that the first sampler keeps. As many as fit a window of the second one take a single pass."""

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ConfigError(f"keep is {self.keep}.", "Set sampler.keep=256, or any number above 0.")
        if getattr(self.second, "fps", 1.0) < 1:
            raise ConfigError(
                "The second sampler takes less than one frame a second, and would leave out some that were kept.",
                "Set sampler.second.fps=1, and the rate at which the video is searched with sampler.first.fps.",
            )

    def query(self, question: Question) -> str:
        """The queries of both samplers."""
        queries = dict.fromkeys([self.first.query(question), self.second.query(question)])
        return "\n\n".join(queries)

    def check(self, questions: Sequence[Question]) -> None:
        """Run the checks of both samplers.

        Raises:
            InputError: one of them cannot run as it was asked for.
        """
        check_inner("first", self.first, questions)
        check_inner("second", self.second, questions)

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """False: the second sampler scores a video that consists of the kept frames."""
        return False

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        """Those of the first, and of the second over the kept frames: for each question, as each has its own.

        Questions share them where all candidates are kept. The number of candidates is known from the first one's
        rate, if it has one.
        """
        candidates = self._candidates(video)
        kept = self._planned_clip(video, candidates)
        together = candidates is not None and candidates <= self.keep
        groups = [list(questions)] if together else [[question] for question in questions]
        return planned(self.first, video, questions) + sum(planned(self.second, kept, group) for group in groups)

    def check_windows(self, video: Video, questions: Sequence[Question]) -> None:
        """Both samplers check their windows, the second one over the kept frames."""
        if isinstance(self.first, ChecksWindows):
            with overrides_under("first"):
                self.first.check_windows(video, questions)
        candidates = self._candidates(video)
        if isinstance(self.second, ChecksWindows) and candidates is not None:
            with overrides_under("second"):
                self.second.check_windows(self._planned_clip(video, candidates), questions)

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """The second sampler's scores of the kept frames; only these are candidates.

        A question of which the first sampler has no scores keeps the first one's status.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: a model cannot be loaded.
        """
        with overrides_under("first"):
            first = self.first.score(video, frames, questions)
        found: dict[int, Relevance] = {}
        same_frames: dict[tuple[float, ...], list[int]] = {}
        for place, relevance in enumerate(first):
            kept = _best(relevance, self.keep) if relevance.status.has_scores else ()
            if kept:
                same_frames.setdefault(kept, []).append(place)
            else:
                found[place] = self._without_frames(relevance)
        for kept, places in same_frames.items():
            clip = KeptFrames(video, frames, kept)
            with overrides_under("second"):
                scored = self.second.score(clip.video, clip, [questions[place] for place in places])
            for place, relevance in zip(places, scored, strict=True):
                found[place] = replace(
                    relevance,
                    detail=under("second", relevance.detail),
                    cost=cost_of_both(first[place].cost, relevance.cost),
                    alone=cost_of_both(alone(first[place]), alone(relevance)),
                    features=None,  # those of the kept frames, if any
                )
        return [found[place] for place in range(len(questions))]

    def close(self) -> None:
        """Free both models."""
        self.first.close()
        self.second.close()

    def _candidates(self, video: Video) -> int | None:
        rate = getattr(self.first, "fps", None)
        return len(candidate_times(video, rate)) if rate else None

    def _planned_clip(self, video: Video, candidates: int | None) -> Video:
        """A video as long as the one that the second sampler will get."""
        count = min(candidates or self.keep, self.keep)
        return replace(video, start=0.0, duration=float(count), fps=1.0, frame_count=count)

    def _without_frames(self, relevance: Relevance) -> Relevance:
        if relevance.status.has_scores:  # but no candidates to rank
            detail = f"{self.first.name} scores no frames: take another first sampler, sampler@sampler.first=clip."
            return replace(relevance, status=Status.NO_SCORES, spread=None, detail=detail)
        return replace(relevance, detail=under("first", relevance.detail), features=None)


def _best(relevance: Relevance, keep: int) -> tuple[float, ...]:
    """Seconds of the highest scores among the named frames, in order of time; of equal scores the earliest."""
    scores = np.array(relevance.scores)
    if relevance.named_above is not None:
        scores = np.where(scores > relevance.named_above, scores, -np.inf)
    order = np.argsort(-scores, kind="stable")[:keep]
    return tuple(relevance.times[place] for place in sorted(order) if np.isfinite(scores[place]))
