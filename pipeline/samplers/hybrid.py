"""Two samplers, one behind the other: a cheap one keeps the best candidates, and a dear one looks at these alone.

GenS does so for very long videos (arXiv 2503.09146): CLIP keeps the best 256 frames of the 1 fps pool, and one pass of
GenS runs over them in order of time.

The second sampler is shown a video that consists of the kept frames, one a second; the times that it reports are the
frames' own. Each question has kept frames of its own, so questions cannot share what the second sampler makes of them;
those that keep the same frames do, as all do where there are no more candidates than may be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import InstanceOf

from pipeline.domain import Cost, Frame, FrameSource, Question, Relevance, Status, Video
from pipeline.errors import ConfigError, PipelineError
from pipeline.identity import Identified, Label, digest
from pipeline.samplers import ChecksQuestions, ChecksWindows, PlansWindows, Sampler
from pipeline.video.timeline import TOLERANCE, candidate_times


@dataclass(frozen=True)
class HybridSampler(Identified):
    """What the second sampler says of the frames that the first one likes best."""

    kind: ClassVar[str] = "hybrid"

    name: Label[str]
    first: InstanceOf[Sampler]
    second: InstanceOf[Sampler]
    keep: int
    """Frames that the first one leaves; as many as a window of the second one holds make one pass."""

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ConfigError(f"keep is {self.keep}.", "Set sampler.keep=256, or any number above 0.")
        if getattr(self.second, "fps", 1.0) < 1:
            raise ConfigError(
                "The second sampler takes less than one frame a second, and would leave out some that were kept.",
                "Set sampler.second.fps=1, and the rate at which the video is searched with sampler.first.fps.",
            )

    def query(self, question: Question) -> str:
        """What both are told."""
        told = dict.fromkeys([self.first.query(question), self.second.query(question)])
        return "\n\n".join(told)

    def check(self, questions: Sequence[Question]) -> None:
        """Both check what they can tell beforehand.

        Raises:
            InputError: one of them cannot run as it was asked for.
        """
        for key in ("first", "second"):
            part = getattr(self, key)
            if isinstance(part, ChecksQuestions):
                with overrides_under(key):
                    part.check(questions)

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """None: those of the kept frames are of a view that nobody else has."""
        return False

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        """Those of the first, and of the second over the kept frames: for each question, as each has its own.

        Questions share them where all candidates are kept. How many candidates there are is told by the first one's
        rate, if it has one.
        """
        candidates = self._candidates(video)
        kept = self._planned_clip(video, candidates)
        together = candidates is not None and candidates <= self.keep
        groups = [list(questions)] if together else [[question] for question in questions]
        return _planned(self.first, video, questions) + sum(_planned(self.second, kept, group) for group in groups)

    def check_windows(self, video: Video, questions: Sequence[Question]) -> None:
        """See :class:`pipeline.samplers.ChecksWindows`; the second one sees as many frames as are kept."""
        if isinstance(self.first, ChecksWindows):
            with overrides_under("first"):
                self.first.check_windows(video, questions)
        candidates = self._candidates(video)
        if isinstance(self.second, ChecksWindows) and candidates is not None:
            with overrides_under("second"):
                self.second.check_windows(self._planned_clip(video, candidates), questions)

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """The second sampler's scores of the kept frames; these alone are candidates.

        A question of which the first sampler has no scores keeps the first one's status.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: a model cannot be loaded.
        """
        with overrides_under("first"):
            looked = self.first.score(video, frames, questions)
        found: dict[int, Relevance] = {}
        alike: dict[tuple[float, ...], list[int]] = {}
        for place, relevance in enumerate(looked):
            kept = _best(relevance, self.keep) if relevance.status.has_scores else ()
            if kept:
                alike.setdefault(kept, []).append(place)
            else:
                found[place] = self._without_frames(relevance)
        for kept, places in alike.items():
            view = _KeptFrames(video, frames, kept)
            with overrides_under("second"):
                scored = self.second.score(view.video, view, [questions[place] for place in places])
            for place, relevance in zip(places, scored, strict=True):
                found[place] = replace(
                    relevance,
                    detail=_under("second", relevance.detail),
                    cost=_sum(looked[place].cost, relevance.cost),
                    features=None,  # those of the view, if any
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
        """What the second one will be shown, as far as its length goes."""
        count = min(candidates or self.keep, self.keep)
        return replace(video, start=0.0, duration=float(count), fps=1.0, frame_count=count)

    def _without_frames(self, relevance: Relevance) -> Relevance:
        if relevance.status.has_scores:  # and yet no candidates, so that there is nothing to rank
            detail = f"{self.first.name} scores no frames: take another first sampler, sampler@sampler.first=clip."
            return replace(relevance, status=Status.NO_SCORES, spread=None, detail=detail)
        return replace(relevance, detail=_under("first", relevance.detail), features=None)


class _KeptFrames:
    """A video of chosen frames of another one: each is on screen for a second, and keeps its own time and index."""

    def __init__(self, video: Video, frames: FrameSource, times: tuple[float, ...]) -> None:
        self._frames = frames
        self._times = times
        self.video = replace(
            video,
            fingerprint=digest({"video": video.fingerprint, "times": times}),
            start=0.0,
            duration=float(len(times)),
            fps=1.0,
            frame_count=len(times),
        )

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        return self._frames.frames_at([self._kept(second) for second in seconds])

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        return self._frames.indices_at([self._kept(second) for second in seconds])

    def times_of(self, indices: Sequence[int]) -> list[float]:
        """In the whole video, as the first sampler is given them."""
        return self._frames.times_of(indices)

    def _kept(self, second: float) -> float:
        return self._times[min(int(second + TOLERANCE), len(self._times) - 1)]


def _planned(sampler: Sampler, video: Video, questions: Sequence[Question]) -> int:
    return sampler.windows(video, questions) if isinstance(sampler, PlansWindows) else 0


def _best(relevance: Relevance, keep: int) -> tuple[float, ...]:
    """Seconds of the highest scores, in order of time; of equal scores the earliest."""
    order = np.argsort(-np.array(relevance.scores), kind="stable")[:keep]
    return tuple(relevance.times[place] for place in sorted(order))


def _sum(one: Cost, other: Cost) -> Cost:
    return Cost(
        one.seconds + other.seconds, one.prompt_tokens + other.prompt_tokens, one.output_tokens + other.output_tokens
    )


@contextmanager
def overrides_under(part: str) -> Iterator[None]:
    """Errors of a part name its settings as they are called from here."""
    try:
        yield
    except PipelineError as error:
        raise type(error)(error.problem, _under(part, error.remedy)) from error


def _under(part: str, advice: str) -> str:
    return advice.replace("sampler.", f"sampler.{part}.")
