"""A user's function that scores frames."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Literal

from pipeline.domain import Cost, FrameSource, Question, Relevance, Video
from pipeline.errors import ConfigError, FunctionError
from pipeline.functions import TimedFrame, UserFunction, timed
from pipeline.identity import Identified, Label
from pipeline.samplers.frames import distinct
from pipeline.samplers.queries import score_askable, with_options


@dataclass(frozen=True)
class FunctionSampler(Identified):
    """Gives a function the frames of a video, a batch at a time, for each of its questions.

    A failure of the function costs the question for which it was called.
    """

    kind: ClassVar[str] = "function"

    name: Label[str]
    function: Callable[..., Any]
    """``function(question, frames, **settings)``: the question as text, and a list of ``(time, pixels)``; returns a
    number for each frame, as a list, an array or a tensor."""
    settings: Mapping[str, Any]
    """Keyword arguments of ``function`` and ``load``: each goes to the one that has an argument of its name."""
    load: Callable[..., Any] | None
    """Called once, before the first frames; what it returns is the argument ``model`` of ``function``."""
    fps: float
    """Candidate frames a second."""
    query_form: Literal["question", "question_and_options"]
    batch_size: int
    """Frames in a batch. The last batch of a video may have fewer. It is content, since the scores of a function may
    depend on what else is in the batch."""
    named_above: float | None
    """Frames with a score above it may be chosen for their score; None: all."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}.", "Set sampler.batch_size=1, or more.")
        _ = self._call  # a function that does not take its settings is known now

    def query(self, question: Question) -> str:
        """The question, with its options where they matter."""
        return question.text.strip() if self.query_form == "question" else with_options(question)

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question, in their order. The video is decoded once; one batch of frames is held at a time.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: the model cannot be loaded.
        """
        return score_askable(questions, self.query, tuple, lambda asked: self._score(video, frames, asked))

    def close(self) -> None:
        """Let the model go."""
        self._call.close()

    @cached_property
    def _call(self) -> UserFunction:
        return UserFunction("sampler", self.function, self.settings, self.load, ("question", "frames"))

    def _score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        started = time.perf_counter()
        times: list[float] = []
        scores: dict[str, list[float]] = {question.id: [] for question in questions}
        failed: dict[str, Relevance] = {}
        own = dict.fromkeys(scores, 0.0)  # seconds of each question's calls
        stream = distinct(video, frames, self.fps)
        while batch := [timed(frame) for frame in islice(stream, self.batch_size)]:
            times += [frame.time for frame in batch]
            for question in questions:
                if question.id not in failed:
                    begin = time.perf_counter()
                    try:
                        scores[question.id] += self._scores(question, batch)
                    except FunctionError as error:  # not kept: its traceback holds what the function held
                        failed[question.id] = Relevance(question.id, (), (), status=error.status, detail=str(error))
                    own[question.id] += time.perf_counter() - begin
            if len(failed) == len(questions):
                break
        shared, share = time.perf_counter() - started - sum(own.values()), 1 / len(questions)
        more = {"pool": float(len(times)), "frames_scored": float(len(times))}
        found = []
        for each in questions:
            cost, alone = (Cost(part + own[each.id], more=more) for part in (shared * share, shared))
            scored = Relevance(each.id, tuple(times), tuple(scores[each.id]), named_above=self.named_above)
            found.append(replace(failed.get(each.id, scored), cost=cost, alone=alone))
        return found

    def _scores(self, question: Question, batch: list[TimedFrame]) -> list[float]:
        given = self._call(self.query(question), batch)
        wanted = f"{len(batch)} finite numbers, one for each frame"
        try:
            scores = [float(score) for score in (given.tolist() if hasattr(given, "tolist") else given)]
        except (TypeError, ValueError, OverflowError) as error:
            raise self._call.wrong(given, wanted) from error
        if len(scores) != len(batch) or not all(map(math.isfinite, scores)):
            raise self._call.wrong(given, wanted)
        return scores
