"""A user's function that answers from frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from pipeline.answerers import NO_LIMIT, AnswererLimits, AnswerRequest
from pipeline.answerers.ahead import ahead, each
from pipeline.answerers.options import conclude
from pipeline.answerers.prompts import WITHOUT_PICTURES, AnswerPrompt, question_fault
from pipeline.domain import Answer, Cost, Status
from pipeline.errors import ConfigError, FramesError, FunctionError, with_remedy
from pipeline.families.chat import frame_mark
from pipeline.functions import UserFunction, timed
from pipeline.identity import Identified, Label, Speed

_SCALED = with_remedy(
    "The selection scales its frames, and a function is given frames as they are decoded.",
    "Take an answerer whose frames have any size, for instance answerer=qwen2_5_vl_7b, or a selection without scales.",
)


@dataclass(frozen=True)
class FunctionAnswerer(Identified):
    """Gives a function the frames of each question, and reads an option from the text that it returns.

    A failure of the function costs the question for which it was called.
    """

    kind: ClassVar[str] = "function"

    name: Label[str]
    function: Callable[..., Any]
    """``function(question, frames, **settings)``: the question as text, with options and instruction as ``prompt`` has
    them, and a list of ``(time, pixels)``; returns the text of the answer."""
    settings: Mapping[str, Any]
    """Keyword arguments of ``function`` and ``load``: each goes to the one that has an argument of its name."""
    load: Callable[..., Any] | None
    """Called once, before the first question; what it returns is the argument ``model`` of ``function``."""
    prompt: AnswerPrompt
    max_frames: int | None
    """Frames that the function takes; None: any number."""
    calls_at_once: Speed[int]
    """Calls under way at once, each in a thread of its own, and never more than ``execution.answer_batch``."""
    is_repeatable: Speed[bool]
    """Whether the same frames and question always have the same answer, so that other runs may use it."""

    def __post_init__(self) -> None:
        for name in ("calls_at_once", "max_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"answerer.{name}={value} is too small.", f"Set answerer.{name}=1, or more.")
        _ = self._call  # a function that does not take its settings is known now

    def limits(self) -> AnswererLimits:
        """As the settings say; what a function can take otherwise is not known."""
        return AnswererLimits(NO_LIMIT, 1, self.max_frames, "the function is given the second of each frame")

    def check_subtitles(self) -> None:
        """Raise where subtitles are to go between the frames.

        Raises:
            ConfigError: they are.
        """
        self.prompt.check_in_one()

    def capacity(self, request: AnswerRequest) -> int:
        """All of the frames, or ``max_frames``."""
        count = len(request.frames)
        return count if self.max_frames is None else min(count, self.max_frames)

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        """An answer a request. The frames of the next one are decoded while the function is busy.

        Raises:
            CheckpointError: the model cannot be loaded.
        """
        at_once = min(batch, self.calls_at_once)
        return each(self._answer, requests, at_once) if at_once > 1 else self._one_by_one(requests)

    def close(self) -> None:
        """Let the model go."""
        self._call.close()

    @cached_property
    def _call(self) -> UserFunction:
        return UserFunction("answerer", self.function, self.settings, self.load, ("question", "frames"))

    def _one_by_one(self, requests: Iterable[AnswerRequest]) -> Generator[Answer, None, None]:
        for request in ahead(requests, lambda request: request, 1):
            yield self._answer(request)

    def _answer(self, request: AnswerRequest) -> Answer:
        if request.question.option_images:
            return self._failed(request, Status.UNSUPPORTED, WITHOUT_PICTURES)
        if fault := question_fault(request.question, ()):
            return self._failed(request, Status.INVALID_QUESTION, fault)
        if any(frame.scale not in (None, 1.0) for frame in request.frames):
            return self._failed(request, Status.UNSUPPORTED, _SCALED)
        count = len(request.frames)
        if self.max_frames is not None and count > self.max_frames:
            fewer = f"selection.budget={self.max_frames}, or over_limit=keep_best, which leaves out the lowest scores"
            problem = f"{count} frames are more than the {self.max_frames} of answerer.max_frames."
            return self._failed(request, Status.CONTEXT_EXCEEDED, with_remedy(problem, f"Try {fewer}."))
        words = self.prompt.words(request)
        asked = "\n".join(part for part in (words.system, words.text, words.begun) if part)
        marks = [frame_mark(range(place, place + 1), request.times) for place in range(count)]
        sent = "\n".join([*marks, asked])
        told = {"frames_shown": float(count), "rounds": 1.0}
        begin = time.perf_counter()
        try:
            text = self._call(asked, [timed(frame) for frame in request.frames])
            if not isinstance(text, str):
                raise self._call.wrong(text, "a text")
        except (FunctionError, FramesError) as error:
            failed = self._failed(request, error.status, str(error), Cost(time.perf_counter() - begin, more=told))
            return replace(failed, prompt=sent)
        answer = conclude(
            request.question,
            text,
            begun=words.begun,
            truncated=False,
            form=self._form(),
            frame_times=request.times,
            cost=Cost(time.perf_counter() - begin, more=told),
        )
        return replace(answer, prompt=sent)

    def _form(self) -> str:
        return f"frames with their seconds, by {self._call.name}"

    def _failed(self, request: AnswerRequest, status: Status, detail: str, cost: Cost | None = None) -> Answer:
        return request.failed(status, detail, self._form(), cost)
