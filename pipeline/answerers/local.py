"""How a model on this machine is asked: the same for every family, which brings its inputs, its forms and its loading.

What cannot be put to the model is refused before it is loaded. The rest goes to it in batches, halved where memory runs
out, and each text that comes back is read by :func:`pipeline.answerers.options.conclude`.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pipeline.answerers import AnswerRequest
from pipeline.answerers.options import conclude
from pipeline.answerers.prompts import AnswerPrompt, question_fault
from pipeline.domain import Answer, Cost, Frame, Status
from pipeline.errors import ConfigError, OutOfMemoryError, VideoError, with_remedy

if TYPE_CHECKING:
    from pipeline.inference.greedy import Generated


@dataclass(frozen=True)
class Asked:
    """A request that can be put to the model."""

    request: AnswerRequest
    words: str
    """Question, options and instruction, as :meth:`AnswerPrompt.render` gives them."""
    tokens: int
    """Length of the whole prompt."""

    @property
    def frames(self) -> tuple[Frame, ...]:
        """In order of time."""
        return self.request.frames


class Reader(Protocol):
    """What turns frames and words into one checkpoint's inputs, in one form. Holds a tokenizer and no weights."""

    @property
    def context_tokens(self) -> int:
        """Tokens that prompt and answer may have together."""
        ...

    @property
    def markup(self) -> Sequence[str]:
        """Strings that the model reads as markup, so that they must not stand in a question."""
        ...

    @property
    def smaller(self) -> Sequence[str]:
        """Overrides by which a frame takes fewer tokens; none where there is no such setting."""
        ...

    def describe(self, frames: Sequence[Frame]) -> str:
        """How frames and their times are put to the model, in one line; without ``frames``, as far as settings say."""
        ...

    def tokens(self, frames: Sequence[Frame], words: str) -> int:
        """Length of the prompt; looks at no pixel.

        Raises:
            VideoError: these frames cannot be put in this form.
        """
        ...

    def alike(self, frames: Sequence[Frame]) -> Hashable:
        """Requests whose frames give equal values can be one batch."""
        ...

    def generate(self, model: Any, batch: Sequence[Asked], max_new_tokens: int) -> Sequence[Generated]:
        """What the model writes for each of a batch. It must not depend on who else is in the batch."""
        ...


SomeReader = TypeVar("SomeReader", bound=Reader)

_NOTHING = Cost()


class LocalModel(Generic[SomeReader]):
    """A model on this machine. Its tokenizer is read with the first request, its weights with the first that fits.

    Args:
        open_reader: reads tokenizer and image settings.
        load: loads the weights.
        prompt: the words of a question.
        max_new_tokens: a limit for each answer.

    Raises:
        ConfigError: the limit leaves no room for an answer.
    """

    def __init__(
        self, open_reader: Callable[[], SomeReader], load: Callable[[], Any], prompt: AnswerPrompt, max_new_tokens: int
    ) -> None:
        if max_new_tokens < 1:
            raise ConfigError(
                f"answerer.max_new_tokens={max_new_tokens} leaves no room for an answer.",
                "A letter needs a few: answerer.max_new_tokens=16",
            )
        self._open_reader = open_reader
        self._load = load
        self._prompt = prompt
        self._max_new_tokens = max_new_tokens

    @cached_property
    def reader(self) -> SomeReader:
        """The checkpoint's inputs."""
        return self._open_reader()

    @cached_property
    def model(self) -> Any:
        """The loaded model."""
        return self._load()

    def close(self) -> None:
        """Free the model and its device memory; a later ``answer`` loads it again."""
        model = self.__dict__.pop("model", None)
        self.__dict__.pop("reader", None)
        if model is not None:
            from pipeline.models.checkpoint import release

            release(model)

    def answer(self, requests: Sequence[AnswerRequest]) -> list[Answer]:
        """One answer a request, in their order; see :class:`pipeline.answerers.Answerer`."""
        answers: dict[int, Answer] = {}
        batches: dict[Hashable, dict[int, Asked]] = {}
        for place, request in enumerate(requests):
            asked = self._asked(request)
            if isinstance(asked, Answer):
                answers[place] = asked
            else:
                batches.setdefault(self.reader.alike(request.frames), {})[place] = asked
        for batch in batches.values():
            answers.update(zip(batch, self._answers(list(batch.values())), strict=True))
        return [answers[place] for place in range(len(requests))]

    def _asked(self, request: AnswerRequest) -> Asked | Answer:
        """The request in the model's terms, or the failure that is known before the model is called."""
        question, frames, reader = request.question, request.frames, self.reader
        if not frames:
            remedy = "See the selection's status; selection.fill=uniform takes frames where the sampler names none."
            return self._failed(request, Status.NO_FRAMES, with_remedy("There is no frame to answer from.", remedy))
        if fault := question_fault(question, reader.markup):
            return self._failed(request, Status.INVALID_QUESTION, fault)
        words = self._prompt.render(question)
        try:
            asked = Asked(request, words, reader.tokens(frames, words))
        except VideoError as error:
            return self._failed(request, error.status, str(error))
        return asked if asked.tokens + self._max_new_tokens <= reader.context_tokens else self._too_long(asked)

    def _too_long(self, asked: Asked) -> Answer:
        frames, reader = asked.frames, self.reader
        fitting = bisect_right(
            range(1, len(frames)),
            reader.context_tokens - self._max_new_tokens,
            # The last frames have the longest labels.
            key=lambda count: reader.tokens(frames[-count:], asked.words),
        )
        fewer = f"selection.budget={fitting}" if fitting else "a shorter question, as no frame fits in beside this one"
        detail = with_remedy(
            f"{len(frames)} frames and the question are {asked.tokens} tokens and {self._max_new_tokens} are kept for "
            f"the answer, more than the {reader.context_tokens} of the model's context.",
            _any_of(fewer, *reader.smaller),
        )
        cost = Cost(prompt_tokens=asked.tokens)
        return self._failed(asked.request, Status.CONTEXT_EXCEEDED, detail, shown=frames, cost=cost)

    def _answers(self, batch: Sequence[Asked]) -> list[Answer]:
        """Of requests that can be one batch. What does not fit the memory is tried in halves: answers are the same."""
        from pipeline.inference.greedy import halving

        _ = self.model  # loading is no part of an answer's time
        begin = time.perf_counter()
        results = halving(self._generate, batch)
        seconds = (time.perf_counter() - begin) / len(batch)
        return [self._answer(asked, result, seconds) for asked, result in zip(batch, results, strict=True)]

    def _generate(self, batch: Sequence[Asked]) -> Sequence[Generated]:
        from pipeline.inference.greedy import mapped_out_of_memory

        with mapped_out_of_memory():
            return self.reader.generate(self.model, batch, self._max_new_tokens)

    def _answer(self, asked: Asked, result: Generated | OutOfMemoryError, seconds: float) -> Answer:
        if isinstance(result, OutOfMemoryError):
            fewer = [f"selection.budget={len(asked.frames) // 2}"] if len(asked.frames) > 1 else []
            others = ("answerer.checkpoint.device=spread over more GPUs", "a smaller answerer=NAME")
            detail = with_remedy(
                f"{result.problem} It was tried alone, as with execution.answer_batch=1.",
                _any_of(*fewer, *self.reader.smaller, *others),
            )
            cost = Cost(seconds, asked.tokens)
            return self._failed(asked.request, Status.OUT_OF_MEMORY, detail, shown=asked.frames, cost=cost)
        return conclude(
            asked.request.question,
            result.text,
            truncated=not result.ended,
            form=self.reader.describe(asked.frames),
            frame_times=_times(asked.request),
            cost=Cost(seconds, asked.tokens, len(result.tokens)),
        )

    def _failed(
        self, request: AnswerRequest, status: Status, detail: str, shown: Sequence[Frame] = (), cost: Cost = _NOTHING
    ) -> Answer:
        return Answer(
            question_id=request.question.id,
            text="",
            status=status,
            detail=detail,
            form=self.reader.describe(shown),
            frame_times=_times(request),
            cost=cost,
        )


def _any_of(*remedies: str) -> str:
    return f"Try {', or '.join(remedies)}."


def _times(request: AnswerRequest) -> tuple[float, ...]:
    return tuple(frame.time for frame in request.frames)
