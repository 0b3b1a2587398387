"""Two samplers in sequence: a cheap one keeps the best candidates, and an expensive one scores only these.

GenS does so for very long videos (arXiv 2503.09146): CLIP keeps the best 256 frames of the 1 fps pool, and one pass of
GenS runs over them in order of time.

The second sampler is shown a video that consists of the kept frames, one a second; the times that it reports are the
frames' own. Each question has kept frames of its own, so questions cannot share what the second sampler makes of them;
those that keep the same frames do, as all do where there are no more candidates than may be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from pydantic import InstanceOf

from pipeline.domain import Cost, Frame, FrameSource, PreparedPictures, Question, Relevance, Status, Video
from pipeline.errors import ConfigError, PipelineError
from pipeline.identity import Identified, Label, digest
from pipeline.samplers import ChecksQuestions, ChecksWindows, PlansWindows, Sampler
from pipeline.video.preparing import prepared_pictures
from pipeline.video.timeline import TOLERANCE, candidate_times


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
        for key in ("first", "second"):
            part = getattr(self, key)
            if isinstance(part, ChecksQuestions):
                with overrides_under(key):
                    part.check(questions)

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
        return _planned(self.first, video, questions) + sum(_planned(self.second, kept, group) for group in groups)

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
            clip = _KeptFrames(video, frames, kept)
            with overrides_under("second"):
                scored = self.second.score(clip.video, clip, [questions[place] for place in places])
            for place, relevance in zip(places, scored, strict=True):
                found[place] = replace(
                    relevance,
                    detail=_under("second", relevance.detail),
                    cost=_sum(first[place].cost, relevance.cost),
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
        return replace(relevance, detail=_under("first", relevance.detail), features=None)


class _KeptFrames:
    """A video of kept frames of another one: each is shown for a second, and keeps its own time and index."""

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

    def prepared_at(self, seconds: Sequence[float], prepare: Callable[[Frame], Any]) -> PreparedPictures:
        return prepared_pictures(self._frames, [self._kept(second) for second in seconds], prepare)

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
    """Errors of a part name its settings by their keys in this sampler."""
    try:
        yield
    except PipelineError as error:
        raise type(error)(error.problem, _under(part, error.remedy)) from error


def _under(part: str, advice: str) -> str:
    return advice.replace("sampler.", f"sampler.{part}.")
