"""How a model on this machine is asked: the same for every family, which brings its inputs, its forms and its loading.

What cannot be put to the model is refused before it is loaded. The rest goes to it in batches, prepared while the model
is busy with the batch before, and halved where memory runs out; questions about the same frames share the reading of
them. Each text that comes back is read by :func:`pipeline.answerers.options.conclude`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pipeline.answerers import AnswerRequest
from pipeline.answerers.ahead import Ahead, pieces_of
from pipeline.answerers.options import conclude
from pipeline.answerers.prompts import AnswerPrompt, Words, as_words, question_fault
from pipeline.domain import Answer, Cost, Frame, Question, Status
from pipeline.errors import ConfigError, FramesError, OutOfMemoryError, with_remedy
from pipeline.identity import Identified
from pipeline.inference.limits import OutputLimits
from pipeline.models.first_use import FirstUse
from pipeline.thoughts import leaves_thought_open, split_thoughts

if TYPE_CHECKING:
    from pipeline.inference.greedy import Generated, Halving


@dataclass(frozen=True)
class Asked:
    """A request that can be put to the model. Its frames are inputs by now, so that their pixels need not be kept."""

    question: Question
    frame_times: tuple[float, ...]
    """Seconds."""
    form: str
    """As :meth:`Reader.describe` has it."""
    tokens: int
    """Length of the whole prompt."""
    begun: str
    """How the answer begins already."""
    inputs: Any
    """As :meth:`Reader.encode` gives them."""


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

    def tokens(self, frames: Sequence[Frame], words: Words) -> int:
        """Length of the prompt; looks at no pixel.

        Raises:
            FramesError: these frames cannot be put in this form.
        """
        ...

    def pixels(self, frames: Sequence[Frame]) -> Any:
        """The frames as the vision tower takes them; needs no model, and is called while the model is busy.

        Raises:
            FramesError: these frames cannot be put in this form.
        """
        ...

    def encode(self, pixels: Any, frames: Sequence[Frame], words: Words) -> Any:
        """One request's inputs, not padded, with :meth:`pixels` of its frames; likewise."""
        ...

    def language(self, model: Any) -> Any:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        ...

    @property
    def tokenizer(self) -> Any:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        ...

    def frames_end(self, prompt: Any) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        ...

    def read(self, model: Any, prompt: Any, length: int, cache: Any) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        ...


SomeReader = TypeVar("SomeReader", bound=Reader)

_LAST_TOKENS = 16
"""Of a prompt, in which a mark at its end is whole."""
_NOTHING = Cost()
_WITHOUT_PICTURES = with_remedy(
    "The options are pictures, and this answerer is given pictures of the video alone.",
    "Take one that is given both: answerer=openai, vllm, gpt4o or gemini; or leave such tasks out: "
    "benchmark.leave_out=[TASK] of HourVideo.",
)


class LocalModel(Generic[SomeReader]):
    """A model on this machine. Its tokenizer is read with the first request, its weights with the first that fits.

    Args:
        open_reader: reads tokenizer and image settings.
        load: loads the weights.
        prompt: the words of a question.
        max_new_tokens: a limit for each answer.
        source: hub id or folder of the checkpoint, for messages.
        limits: what a thought and an answer may have; None: ``max_new_tokens`` for both together.
        write: how answers are written; None: as :func:`pipeline.inference.framed_prompts.write_answers` does it.

    Raises:
        ConfigError: the limit leaves no room for an answer.
    """

    def __init__(
        self,
        open_reader: Callable[[], SomeReader],
        load: Callable[[], Any],
        prompt: AnswerPrompt,
        max_new_tokens: int,
        source: str,
        limits: Callable[[SomeReader], OutputLimits] | None = None,
        write: Callable[[Any, Sequence[Any], OutputLimits], Sequence[Generated]] | None = None,
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
        self._find_limits = limits
        self._write = write
        self._first_use = FirstUse(source)
        self._latest: tuple[Sequence[Frame], Any] = ((), None)
        self.prepared_bytes = float("inf")
        """Prepared requests hold no more memory than this, where more than one is held."""

    @cached_property
    def reader(self) -> SomeReader:
        """The checkpoint's inputs."""
        return self._open_reader()

    @cached_property
    def limits(self) -> OutputLimits:
        """Of what the model writes."""
        return OutputLimits(self._max_new_tokens) if self._find_limits is None else self._find_limits(self.reader)

    @cached_property
    def model(self) -> Any:
        """The loaded model."""
        return self._load()

    def close(self) -> None:
        """Free the model and its device memory; a later ``answer`` loads it again."""
        model = self.__dict__.pop("model", None)
        self.__dict__.pop("reader", None)
        self.__dict__.pop("limits", None)
        self._latest = ((), None)
        if model is not None:
            from pipeline.models.checkpoint import release

            release(model)

    def capacity(self, request: AnswerRequest) -> int:
        """See :class:`pipeline.answerers.Answerer`."""
        words = self._words(request)
        try:
            tokens = self.reader.tokens(request.frames, words) if request.frames else 0
        except FramesError:
            return len(request.frames)  # they are no matter of number, and the answer says what they are
        return len(request.frames) if self._fits(tokens) else self._fitting(request.frames, words)

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        """See :class:`pipeline.answerers.Answerer`."""
        with closing(Ahead(requests, self._asked, batch, _held, self.prepared_bytes)) as made:
            while together := made.take(batch):
                count = len(together)
                known = [made for made in together if isinstance(made, Answer)]
                asked = [made for made in together if isinstance(made, Asked)]
                del together
                yield from known
                answers = self._answers(asked) if asked else []
                del asked
                made.release(count)
                yield from answers
        self._latest = ((), None)

    def encode(self, request: AnswerRequest) -> Any:
        """The inputs that the model gets for this request, not padded. Loads the tokenizer and no weights.

        Raises:
            FramesError: the frames cannot be put in this form.
        """
        return self.reader.encode(self._pixels(request.frames), request.frames, self._words(request))

    def _words(self, request: AnswerRequest) -> Words:
        """What goes with the frames; nothing that is said in the video is read as markup."""
        if request.subtitles:
            request = replace(request, subtitles=as_words(request.subtitles, self.reader.markup))
        return self._prompt.words(request)

    def _pixels(self, frames: Sequence[Frame]) -> Any:
        """Of the frames; the same object for the frames of the latest request, whose questions share their reading."""
        known, pixels = self._latest
        same = len(known) == len(frames) and all(
            old.pixels is new.pixels and old.time == new.time for old, new in zip(known, frames, strict=True)
        )
        if not same:
            known, pixels = self._latest = ((), None)  # the old ones are let go before others are made
            pixels = self.reader.pixels(frames)
            self._latest = (frames, pixels)
        return pixels

    def _asked(self, request: AnswerRequest) -> Asked | Answer:
        """The request in the model's terms, or the failure that is known before the model is called."""
        from pipeline.inference.greedy import mapped_out_of_memory

        if refused := self._refused(request):
            return refused
        question, frames, reader = request.question, request.frames, self.reader
        words = self._words(request)
        try:
            with self._first_use.watched("prompt"):
                tokens = reader.tokens(frames, words)
            if not self._fits(tokens):
                return self._too_long(request, words, tokens)
            with self._first_use.watched("set of frames"), mapped_out_of_memory():
                inputs = self.encode(request)
        except FramesError as error:
            return self._failed(request, error.status, str(error))
        except OutOfMemoryError as error:
            cost = Cost(prompt_tokens=tokens)
            detail = self._no_memory(error, len(frames))
            return self._failed(request, Status.OUT_OF_MEMORY, detail, shown=frames, cost=cost)
        return Asked(question, _times(request), reader.describe(frames), tokens, words.begun, inputs)

    def _refused(self, request: AnswerRequest) -> Answer | None:
        """The failure of what no prompt can be made of."""
        if not request.frames:
            remedy = "See the selection's status; selection.fill=uniform takes frames where the sampler names none."
            return self._failed(request, Status.NO_FRAMES, with_remedy("There is no frame to answer from.", remedy))
        if request.question.option_images:
            return self._failed(request, Status.UNSUPPORTED, _WITHOUT_PICTURES)
        if fault := question_fault(request.question, self.reader.markup):
            return self._failed(request, Status.INVALID_QUESTION, fault)
        return None

    def _fits(self, tokens: int) -> bool:
        return tokens + self.limits.total <= self.reader.context_tokens

    def _fitting(self, frames: Sequence[Frame], words: Words) -> int:
        """How many of the frames fit, whichever they are: the last have the longest labels."""
        return bisect_right(
            range(1, len(frames)),
            self.reader.context_tokens - self.limits.total,
            key=lambda count: self.reader.tokens(frames[-count:], words.of_last(count)),
        )

    def _too_long(self, request: AnswerRequest, words: Words, tokens: int) -> Answer:
        frames, reader = request.frames, self.reader
        fitting = self._fitting(frames, words)
        ways = (
            [f"selection.budget={fitting}", "over_limit=keep_best, which leaves out the lowest scores"]
            if fitting
            else ["a shorter question, as no frame fits in beside this one"]
        )
        if request.subtitles:
            ways.append("subtitles=none, as these take room too")
        room = "the answer and its thought" if self.limits.thought else "the answer"
        detail = with_remedy(
            f"{len(frames)} frames and the question are {tokens} tokens and {self.limits.total} are kept for "
            f"{room}, more than the {reader.context_tokens} of the model's context.",
            _any_of(*ways, *reader.smaller),
        )
        cost = Cost(prompt_tokens=tokens)
        return self._failed(request, Status.CONTEXT_EXCEEDED, detail, shown=frames, cost=cost)

    def _answers(self, batch: Sequence[Asked]) -> list[Answer]:
        """Of one batch. What does not fit the memory is tried in halves: the answers are the same."""
        _ = self.model  # loading is no part of an answer's time
        begin = time.perf_counter()
        results = self._generate_in_memory(batch)
        seconds = (time.perf_counter() - begin) / len(batch)
        return [self._answer(asked, result, seconds) for asked, result in zip(batch, results, strict=True)]

    @cached_property
    def _generate_in_memory(self) -> Halving[Asked, Generated]:
        from pipeline.inference.greedy import Halving

        return Halving(self._generate)

    def _generate(self, batch: Sequence[Asked]) -> Sequence[Generated]:
        from pipeline.inference.framed_prompts import write_answers
        from pipeline.inference.greedy import mapped_out_of_memory

        with self._first_use.watched("call of the model"), mapped_out_of_memory():
            inputs = [asked.inputs for asked in batch]
            if self._write is not None:
                return self._write(self.model, inputs, self.limits)
            return write_answers(self.reader, self.model, inputs, self.limits.total)

    def _answer(self, asked: Asked, result: Generated | OutOfMemoryError, seconds: float) -> Answer:
        if isinstance(result, OutOfMemoryError):
            return Answer(
                question_id=asked.question.id,
                text="",
                status=Status.OUT_OF_MEMORY,
                detail=self._no_memory(result, len(asked.frame_times)),
                form=asked.form,
                frame_times=asked.frame_times,
                cost=Cost(seconds, asked.tokens),
            )
        return conclude(
            asked.question,
            self._written(result),
            thought_begun=self._begins_in_a_thought(asked),
            begun=asked.begun,
            truncated=not result.ended,
            limit=self.limits.answer,
            longer_thought=self.limits.longer,
            form=asked.form,
            frame_times=asked.frame_times,
            cost=Cost(seconds, asked.tokens, len(result.tokens), more=self._thinking(result)),
        )

    def _thinking(self, result: Generated) -> dict[str, float]:
        """How much of the output was a thought, where one was expected or came."""
        tokens = self.limits.thinking_tokens(result.tokens)
        return {"thinking_tokens": tokens} if tokens or self.limits.thought else {}

    def _written(self, result: Generated) -> str:
        """What the model wrote; with its special tokens where these are marks of thoughts."""
        marked: str = self.reader.tokenizer.decode(result.tokens, skip_special_tokens=False)
        said = split_thoughts(marked)
        return marked if said.thought or said.is_open else result.text

    def _begins_in_a_thought(self, asked: Asked) -> bool:
        """Whether the prompt ends inside a thought, as the templates of some reasoning models have it."""
        last: list[int] = asked.inputs.input_ids[-_LAST_TOKENS:].tolist()
        # Ids below 0 stand for pictures in some families.
        prompt: str = self.reader.tokenizer.decode([token for token in last if token >= 0], skip_special_tokens=False)
        return leaves_thought_open(prompt)

    def _no_memory(self, error: OutOfMemoryError, frames: int) -> str:
        fewer = [f"selection.budget={frames // 2}"] if frames > 1 else []
        others = ("answerer.checkpoint.device=spread over more GPUs", "a smaller answerer=NAME")
        problem = f"{error.problem} It was tried alone, as with execution.answer_batch=1."
        return with_remedy(problem, _any_of(*fewer, *self.reader.smaller, *others))

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


class LocalAnswerer(Identified, ABC, Generic[SomeReader]):
    """The part of an answerer that all models on this machine share; a family adds its settings and limits."""

    @property
    def is_repeatable(self) -> bool:
        """Decoding is greedy."""
        return True

    @property
    @abstractmethod
    def _local(self) -> LocalModel[SomeReader]:
        """The model, made once."""

    def capacity(self, request: AnswerRequest) -> int:
        """See :class:`pipeline.answerers.Answerer`."""
        return self._local.capacity(request)

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        """See :class:`pipeline.answerers.Answerer`."""
        return self._local.answer(requests, batch)

    def hold_at_most(self, prepared_bytes: int) -> None:
        """See :class:`pipeline.answerers.PreparesAhead`."""
        self._local.prepared_bytes = prepared_bytes

    def encode(self, request: AnswerRequest) -> Any:
        """The very inputs that the model gets for a request, not padded. Loads the tokenizer and no weights.

        Raises:
            FramesError: the frames cannot be put in this form.
        """
        return self._local.encode(request)

    def close(self) -> None:
        """Free the model and its device memory; the next ``answer`` loads it again."""
        self._local.close()


def _held(made: Asked | Answer) -> dict[int, int]:
    """What a prepared request holds in memory; an answer that is known already holds nothing to speak of."""
    return {} if isinstance(made, Answer) else pieces_of(made.inputs)


def _any_of(*remedies: str) -> str:
    return f"Try {', or '.join(remedies)}."


def _times(request: AnswerRequest) -> tuple[float, ...]:
    return tuple(frame.time for frame in request.frames)
