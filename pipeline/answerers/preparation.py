"""What a model on this machine is asked: each request in the model's terms, or why it cannot be put to the model.

No weights are needed. What does not fit the context is refused here, with the settings that make it fit.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.answerers import AnswerRequest
from pipeline.answerers.prompts import NO_FRAMES, WITHOUT_PICTURES, AnswerPrompt, as_words, question_fault
from pipeline.domain import Answer, Cost, Frame, Question, Status
from pipeline.errors import FramesError, OutOfMemoryError, with_remedy
from pipeline.families.known import FirstUse
from pipeline.families.seam import RequestProcessor, Words
from pipeline.generation.limits import OutputLimits


@dataclass(frozen=True)
class Prepared:
    """A request that can be put to the model. Its frames are resized, so that those decoded need not be kept."""

    question: Question
    form: str
    """As :meth:`pipeline.families.seam.Processor.describe` has it."""
    begun: str
    """The beginning of the answer."""
    prompt: Any
    """As the processor makes it."""
    seconds: float = 0.0
    """Time that its preparation took; frames that another request showed before were prepared then."""
    whole_seconds: float = 0.0
    """The same with the preparation of all its frames."""


class Preparation:
    """Prepares requests for one checkpoint.

    Args:
        processor: the checkpoint's.
        prompt: the words of a question.
        limits: of what the model writes, for which room is kept.
        source: hub id or folder of the checkpoint, for messages.
    """

    def __init__(self, processor: RequestProcessor, prompt: AnswerPrompt, limits: OutputLimits, source: str) -> None:
        self._processor = processor
        self._prompt = prompt
        self._limits = limits
        self._first_use = FirstUse(source)
        self._latest: tuple[Sequence[Frame], Any] = ((), ())
        self._latest_seconds = 0.0

    def prepare(self, request: AnswerRequest) -> Prepared | Answer:
        """The request in the model's terms, or the failure that is known before the model is called."""
        from pipeline.generation.memory import mapped_out_of_memory

        if refused := self._refused(request):
            return refused
        question, frames, processor = request.question, request.frames, self._processor
        begin, latest = time.perf_counter(), self._latest
        words = self._words(request)
        try:
            with self._first_use.watched("prompt"):
                tokens = processor.count(frames, words)
            if not self._fits(tokens):
                return self._too_long(request, words, tokens)
            with self._first_use.watched("set of frames"), mapped_out_of_memory():
                prompt = self.encode(request)
        except FramesError as error:
            return self._failed(request, error.status, str(error))
        except OutOfMemoryError as error:
            cost = Cost(prompt_tokens=tokens)
            detail = self.no_memory(error, len(frames))
            return self._failed(request, Status.OUT_OF_MEMORY, detail, shown=frames, cost=cost)
        seconds = time.perf_counter() - begin
        known = self._latest_seconds if latest is self._latest else 0.0
        return Prepared(question, processor.describe(frames), words.begun, prompt, seconds, seconds + known)

    def capacity(self, request: AnswerRequest) -> int:
        """How many of the frames fit the context together with the question."""
        words = self._words(request)
        try:
            tokens = self._processor.count(request.frames, words) if request.frames else 0
        except FramesError:
            return len(request.frames)  # no smaller number helps; the answer's status names the fault
        return len(request.frames) if self._fits(tokens) else self._fitting(request.frames, words)

    def encode(self, request: AnswerRequest) -> Any:
        """The prompt that the model gets for this request. Loads the tokenizer and no weights.

        Raises:
            FramesError: the frames cannot be put in this form.
        """
        return self._processor.prompt(self._frames(request.frames), request.frames, self._words(request))

    def release(self) -> None:
        """Let go of the latest frames."""
        self._latest = ((), ())

    def no_memory(self, error: OutOfMemoryError, frames: int) -> str:
        """What to say of a request that does not fit the memory alone."""
        fewer = [f"selection.budget={frames // 2}"] if frames > 1 else []
        others = ("answerer.checkpoint.device=spread over more GPUs", "a smaller answerer=NAME")
        problem = f"{error.problem} It was tried alone, as with execution.answer_batch=1."
        return with_remedy(problem, _any_of(*fewer, *_overrides(self._processor), *others))

    def not_taken(self, error: Exception, frames: int) -> str:
        """What to say of a request at which the model fails, though it has answered others."""
        fewer = [f"selection.budget={frames // 2}"] if frames > 1 else []
        first, _, _ = str(error).partition("\n")
        problem = f"The model fails at this prompt with {type(error).__name__}: {first}."
        return with_remedy(problem, f"{_any_of(*fewer, 'another answerer=NAME')} The traceback is in gens.log.")

    def _words(self, request: AnswerRequest) -> Words:
        """What goes with the frames; nothing that is said in the video is read as markup."""
        if request.subtitles:
            request = replace(request, subtitles=as_words(request.subtitles, self._processor.markup))
        return self._prompt.words(request)

    def _frames(self, frames: Sequence[Frame]) -> Any:
        """The prepared frames; the same object for those of the latest request, whose questions share one prefill."""
        known, prepared = self._latest
        same = len(known) == len(frames) and all(
            old.pixels is new.pixels and old.time == new.time and old.scale == new.scale
            for old, new in zip(known, frames, strict=True)
        )
        if not same:
            known, prepared = self._latest = ((), ())  # the old ones are let go before others are made
            begin = time.perf_counter()
            prepared = self._processor.prepared(frames)
            self._latest, self._latest_seconds = (frames, prepared), time.perf_counter() - begin
        return prepared

    def _refused(self, request: AnswerRequest) -> Answer | None:
        """The failure of what no prompt can be made of."""
        if not request.frames:
            return self._failed(request, Status.NO_FRAMES, NO_FRAMES)
        if request.question.option_images:
            return self._failed(request, Status.UNSUPPORTED, WITHOUT_PICTURES)
        if fault := question_fault(request.question, self._processor.markup):
            return self._failed(request, Status.INVALID_QUESTION, fault)
        return None

    def _fits(self, tokens: int) -> bool:
        return tokens + self._limits.total <= self._processor.context_tokens

    def _fitting(self, frames: Sequence[Frame], words: Words) -> int:
        """How many of the frames fit, whichever they are: the largest, of these the last, with the longest labels."""
        by_size = sorted(frames, key=lambda frame: (frame.scale or 1.0, frame.time))
        return bisect_right(
            range(1, len(frames)),
            self._processor.context_tokens - self._limits.total,
            key=lambda count: self._processor.count(
                sorted(by_size[-count:], key=lambda frame: frame.time), words.of_last(count)
            ),
        )

    def _too_long(self, request: AnswerRequest, words: Words, tokens: int) -> Answer:
        frames, processor = request.frames, self._processor
        fitting = self._fitting(frames, words)
        ways = (
            [f"selection.budget={fitting}", "over_limit=keep_best, which leaves out the lowest scores"]
            if fitting
            else ["a shorter question, as this one leaves no room for a frame"]
        )
        if request.subtitles:
            ways.append("subtitles=none, as these take room too")
        room = "the answer and its thought" if self._limits.thought else "the answer"
        detail = with_remedy(
            f"{len(frames)} frames and the question are {tokens} tokens and {self._limits.total} are kept for "
            f"{room}, more than the {processor.context_tokens} of the model's context.",
            _any_of(*ways, *_overrides(processor)),
        )
        cost = Cost(prompt_tokens=tokens)
        return self._failed(request, Status.CONTEXT_EXCEEDED, detail, shown=frames, cost=cost)

    def _failed(
        self, request: AnswerRequest, status: Status, detail: str, shown: Sequence[Frame] = (), cost: Cost | None = None
    ) -> Answer:
        return request.failed(status, detail, self._processor.describe(shown), cost)


def _overrides(processor: RequestProcessor) -> list[str]:
    """Settings by which a frame takes fewer tokens, as they are typed."""
    return [f"answerer.{setting}" for setting in processor.smaller]


def _any_of(*remedies: str) -> str:
    return f"Try {', or '.join(remedies)}."
