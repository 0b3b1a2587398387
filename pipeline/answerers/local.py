"""How a model on this machine is asked: the same for every family, which brings its processor and its model.

What cannot be put to the model is refused before it is loaded (:mod:`pipeline.answerers.preparation`). The rest goes to
it as soon as it is prepared, which is done while the model is busy with others, and is answered as soon as it is
finished; questions about the same frames share the reading of them. Each text that comes back is read by
:func:`pipeline.answerers.options.conclude`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.answerers import AnswererLimits, AnswerRequest
from pipeline.answerers.ahead import Ahead, pieces_of
from pipeline.answerers.options import conclude
from pipeline.answerers.preparation import Preparation, Prepared
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.domain import Answer, Cost, Frame, Status
from pipeline.errors import CheckpointError, ConfigError, FramesError, OutOfMemoryError
from pipeline.families.chat import FrameLabels
from pipeline.families.known import FirstUse
from pipeline.families.loading.checkpoint import Checkpoint, context_tokens
from pipeline.families.pixels import FrameScale
from pipeline.families.seam import Form, Opened, Processor, RequestProcessor
from pipeline.generation.limits import OutputLimits
from pipeline.identity import Identified, Label
from pipeline.ledger import scaled
from pipeline.thoughts import leaves_thought_open, split_thoughts

if TYPE_CHECKING:
    from pipeline.generation.texts import Generated, Outcome, Work, Writer


_LAST_TOKENS = 16
"""Tokens at the end of a prompt, among which a mark there is whole."""
_READING = "prompt in the model"
_CALL = "call of the model"
_USUAL_FRAME = (720, 1280)


class LocalModel:
    """A model on this machine. Its tokenizer is read with the first request, its weights with the first that fits.

    Args:
        open_checkpoint: reads tokenizer and image settings.
        prompt: the words of a question.
        max_new_tokens: a limit for each answer.
        source: hub id or folder of the checkpoint, for messages.
        output_limits: what a thought and an answer may have, by the processor.
        writer: writes texts with the loaded model.

    Raises:
        ConfigError: the limit leaves no room for an answer.
    """

    def __init__(
        self,
        open_checkpoint: Callable[[], Opened[RequestProcessor]],
        prompt: AnswerPrompt,
        max_new_tokens: int,
        source: str,
        output_limits: Callable[[Any], OutputLimits],
        writer: Callable[[Any, OutputLimits], Writer[str]],
    ) -> None:
        if max_new_tokens < 1:
            raise ConfigError(
                f"answerer.max_new_tokens={max_new_tokens} leaves no room for an answer.",
                "A letter needs a few: answerer.max_new_tokens=16",
            )
        self._open_checkpoint = open_checkpoint
        self._prompt = prompt
        self._output_limits = output_limits
        self._open_writer = writer
        self._source = source
        self._first_use = FirstUse(source)
        self.prepared_bytes = float("inf")
        """Prepared requests hold no more memory than this, where more than one is held."""

    @cached_property
    def opened(self) -> Opened[RequestProcessor]:
        """The checkpoint's processor, and how its model is loaded."""
        return self._open_checkpoint()

    @property
    def processor(self) -> RequestProcessor:
        """The checkpoint's."""
        return self.opened.processor

    @cached_property
    def limits(self) -> OutputLimits:
        """Limits of what the model writes."""
        return self._output_limits(self.processor)

    @cached_property
    def preparation(self) -> Preparation:
        """Prepares the requests. Loads the tokenizer and no weights."""
        return Preparation(self.processor, self._prompt, self.limits, self._source)

    @cached_property
    def model(self) -> Any:
        """The loaded model."""
        return self.opened.load()

    def close(self) -> None:
        """Free the model and its device memory; a later ``answer`` loads it again."""
        model = self.__dict__.pop("model", None)
        for name in ("opened", "limits", "preparation"):
            self.__dict__.pop(name, None)
        if model is not None:
            model.close()

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        """Prepares requests ahead in another thread; ``batch`` at most are in the model, each until it is answered.

        While requests have to be waited for, those in the model go on. After an error of drawing they are answered
        first.
        """
        prepare = self._prepared_or_failed
        with closing(Ahead(requests, prepare, batch, _memory_pieces, self.prepared_bytes)) as made:
            yield from self._answers(made, batch)
        if "preparation" in self.__dict__:  # without any request nothing was opened
            self.preparation.release()

    def _prepared_or_failed(self, request: AnswerRequest) -> Prepared | Answer:
        return self.preparation.prepare(request)  # opens the checkpoint with the first request

    def _answers(self, made: Ahead[AnswerRequest, Prepared | Answer], batch: int) -> Iterator[Answer]:
        at_work = _AtWork()
        failure: Exception | None = None
        while True:
            known: list[tuple[int, Answer]] = []
            if failure is None and len(at_work.asked) < batch:
                try:
                    known = at_work.begin(made.take(batch - len(at_work.asked), wait=not at_work.asked))
                except Exception as error:
                    failure = error
            for number, answer in known:
                made.release(number)
                yield answer
            if at_work.asked:
                for number, answer in self._stepped(at_work):
                    made.release(number)
                    yield answer
            elif not known:
                break
        if failure is not None:
            raise failure

    def _stepped(self, at_work: _AtWork) -> Iterator[tuple[int, Answer]]:
        """What is finished after the next piece of work, also where that fails or is interrupted: it is paid for."""
        from pipeline.generation.memory import mapped_out_of_memory

        if at_work.writer is None:
            at_work.writer = self._open_writer(self.model, self.limits)
        writer = at_work.writer
        try:
            with mapped_out_of_memory():
                for key in at_work.fresh:
                    writer.add(key, at_work.asked[key].prompt)
                at_work.fresh.clear()
                finished = writer.step()
        except BaseException as error:
            yield from self._finished(at_work, writer.finished())
            with self._first_use.watched(_CALL):
                raise error
        if not any(isinstance(outcome.result, Exception) for _, outcome in finished):
            with self._first_use.watched(_READING):
                pass  # what fails from now on is a prompt, not the checkpoint
        yield from self._finished(at_work, finished)

    def _finished(self, at_work: _AtWork, outcomes: Iterable[tuple[str, Outcome]]) -> Iterator[tuple[int, Answer]]:
        for key, outcome in outcomes:
            answer = self._answer(at_work.asked[key], outcome)
            yield at_work.end(key), answer

    def _answer(self, asked: Prepared, outcome: Outcome) -> Answer:
        result, times = outcome.result, asked.prompt.times
        written = None if isinstance(result, Exception) else result
        cost, alone = self._costs(asked, outcome.work, written)
        if isinstance(result, Exception):
            status, detail = self._failure(result, len(times))
            return Answer(
                question_id=asked.question.id,
                text="",
                status=status,
                detail=detail,
                form=asked.form,
                frame_times=times,
                cost=cost,
                prompt=self.processor.sent(asked.prompt),
                alone=alone,
            )
        with self._first_use.watched(_CALL):
            text = self._output_text(result)
        answer = conclude(
            asked.question,
            text,
            thought_begun=self._begins_in_a_thought(asked),
            begun=asked.begun,
            truncated=not result.ended,
            limit=self.limits.answer,
            longer_thought=self.limits.longer,
            form=asked.form,
            frame_times=times,
            cost=cost,
        )
        return replace(answer, prompt=self.processor.sent(asked.prompt), alone=alone)

    def _costs(self, asked: Prepared, work: Work, written: Generated | None) -> tuple[Cost, Cost]:
        """What a question took, and what it would have taken alone."""
        prompt, output = asked.prompt, len(written.tokens) if written else 0
        of_all = {"frames_shown": len(prompt.times), "rounds": 1, **(self._thinking(written) if written else {})}
        measured = self.processor.measured(prompt)
        cost = Cost(
            work.prefill + work.generate,
            round(prompt.tokens - work.shared * (1 - work.reads)),
            output,
            more={
                **of_all,
                **scaled(measured, work.reads),
                "prepare_seconds": asked.seconds,
                "prefill_seconds": work.prefill,
                "generate_seconds": work.generate,
            },
            device=self.model.device_name,
        )
        alone = Cost(
            asked.whole_seconds + work.whole_prefill + work.whole_generate,
            prompt.tokens,
            output,
            more={
                **of_all,
                **measured,
                "prepare_seconds": asked.whole_seconds,
                "prefill_seconds": work.whole_prefill,
                "generate_seconds": work.whole_generate,
            },
            device=cost.device,
        )
        return cost, alone

    def _failure(self, error: Exception, frames: int) -> tuple[Status, str]:
        """The failure of one request if the model has read another; otherwise it is the checkpoint's."""
        if isinstance(error, OutOfMemoryError):
            return Status.OUT_OF_MEMORY, self.preparation.no_memory(error, frames)
        if isinstance(error, FramesError):
            return error.status, str(error)
        try:
            with self._first_use.watched(_READING):
                raise error
        except CheckpointError:
            raise
        except Exception:
            return Status.UNSUPPORTED, self.preparation.not_taken(error, frames)

    def _thinking(self, result: Generated) -> dict[str, float]:
        """How much of the output was a thought, where one was expected or came."""
        tokens = self.limits.thinking_tokens(result.tokens)
        return {"thinking_tokens": tokens} if tokens or self.limits.thought else {}

    def _output_text(self, result: Generated) -> str:
        """What the model wrote; with its special tokens where these are marks of thoughts."""
        marked: str = self.processor.tokenizer.decode(result.tokens, skip_special_tokens=False)
        said = split_thoughts(marked)
        return marked if said.thought or said.is_open else result.text

    def _begins_in_a_thought(self, asked: Prepared) -> bool:
        """Whether the prompt ends inside a thought, as the templates of some reasoning models have it."""
        last: list[int] = asked.prompt.input_ids[-_LAST_TOKENS:].tolist()
        # Ids below 0 stand for pictures in some families.
        prompt: str = self.processor.tokenizer.decode(
            [token for token in last if token >= 0], skip_special_tokens=False
        )
        return leaves_thought_open(prompt)


class _AtWork:
    """The requests that are in the model."""

    def __init__(self) -> None:
        self.writer: Writer[str] | None = None
        self.asked: dict[str, Prepared] = {}
        self.fresh: list[str] = []
        """Those among them that the writer was not given yet."""
        self._numbers: dict[str, int] = {}

    def begin(self, taken: Sequence[tuple[int, Prepared | Answer]]) -> list[tuple[int, Answer]]:
        """Take numbered requests; gives those that are answered already."""
        for number, one in taken:
            if isinstance(one, Prepared):
                self.asked[one.question.id] = one
                self.fresh.append(one.question.id)
                self._numbers[one.question.id] = number
        return [(number, one) for number, one in taken if isinstance(one, Answer)]

    def end(self, key: str) -> int:
        """Let a request go; gives its number."""
        del self.asked[key]
        return self._numbers.pop(key)


class LocalAnswerer(Identified, ABC):
    """What answerers on this machine have in common. A family adds its settings, its limits and how to open it."""

    checkpoint: Checkpoint
    prompt: AnswerPrompt
    max_new_tokens: int

    def __post_init__(self) -> None:
        _ = self._local  # settings that cannot be are known now

    @abstractmethod
    def open(self) -> Opened[RequestProcessor]:
        """Read the checkpoint's tokenizer and image settings; no weights.

        Raises:
            CheckpointError: it is another model, or a file is missing or does not go with the others.
        """

    @abstractmethod
    def check_family(self) -> None:
        """Check by its ``config.json`` that the checkpoint is of this family.

        Raises:
            CheckpointError: it is another model; the error names it.
        """

    def output_limits(self, processor: Any) -> OutputLimits:
        """What the model may write; here ``max_new_tokens`` for all of it."""
        return OutputLimits(self.max_new_tokens)

    def writer(self, model: Any, limits: OutputLimits) -> Writer[str]:
        """Writes texts with the loaded model; here all together, by continuing shared prefixes."""
        from pipeline.generation.framed_prompts import FramedPrompts

        return FramedPrompts(model.language, model.prefix, self.processor.tokenizer, limits, model.row_buffers)

    @property
    def is_repeatable(self) -> bool:
        """Decoding is greedy."""
        return True

    def identity(self) -> Mapping[str, Any]:
        """The checkpoint's content and every other setting that decides the answers.

        Raises:
            CheckpointError: the checkpoint is of another model; the error names it.
        """
        self.check_family()
        return super().identity()

    @property
    def processor(self) -> Any:
        """The checkpoint's; its tokenizer is read with the first use."""
        return self._local.processor

    @property
    def model(self) -> Any:
        """The loaded model; its weights are read with the first use."""
        return self._local.model

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return "model" in self._local.__dict__

    def capacity(self, request: AnswerRequest) -> int:
        """How many of the request's frames fit beside its question."""
        return self._local.preparation.capacity(request)

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        """An answer a request, as soon as it is finished; ``batch`` at most are in the model at once."""
        return self._local.answer(requests, batch)

    def hold_at_most(self, prepared_bytes: int) -> None:
        """Limit the memory of prepared requests."""
        self._local.prepared_bytes = prepared_bytes

    def frame_preparation(self) -> Callable[[Frame], Frame] | None:
        """The processor's, which a family of its own has. Loads the tokenizer and no weights."""
        processor = self.processor
        return processor.without_words().prepared_ahead if isinstance(processor, Processor) else None

    def encode(self, request: AnswerRequest) -> Any:
        """The prompt that the model gets for a request. Loads the tokenizer and no weights.

        Raises:
            FramesError: the frames cannot be put in this form.
        """
        return self._local.preparation.encode(request)

    def close(self) -> None:
        """Free the model and its device memory; the next ``answer`` loads it again."""
        self._local.close()

    @cached_property
    def _local(self) -> LocalModel:
        return LocalModel(
            self.open, self.prompt, self.max_new_tokens, self.checkpoint.source, self.output_limits, self.writer
        )


@dataclass(frozen=True)
class ScaledAnswerer(LocalAnswerer):
    """Settings and limits of families that scale each frame by its area: Qwen's rule, which GLM follows too.

    A family adds its forms, its rule of resizing, and how to open a checkpoint.
    """

    scale_rule: ClassVar[type[FrameScale]] = FrameScale

    name: Label[str]
    checkpoint: Checkpoint
    form: Literal["images", "video"]
    """``images``: each frame an image with its second before it; ``video``: one video of all frames."""
    images: FrameLabels
    """Used by the form of that name."""
    min_pixels: int
    """Area below which a frame is enlarged; a token is 28 x 28 pixels, 32 x 32 in Qwen3-VL."""
    max_pixels: int
    """Area above which a frame is reduced: of each frame, not of the video."""
    frame_size: tuple[int, int] | None
    """Height and width of every frame, in place of the two limits."""
    prompt: AnswerPrompt
    system: str | None
    """The system turn; None leaves it to the checkpoint's chat template."""
    max_new_tokens: int
    """A limit for each answer, without a thought that has a limit of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._scale  # settings that cannot be are known now

    def limits(self) -> AnswererLimits:
        """From the settings and ``config.json``; a frame of the usual size is one of 1280 x 720 pixels."""
        self.check_family()  # says what another model is, before its config is taken for this family's
        return AnswererLimits(
            context_tokens=context_tokens(self.checkpoint),
            tokens_per_frame=self.frame_tokens(*_USUAL_FRAME),
            max_frames=None,
            time_told=self._time_told(),
        )

    def frame_tokens(self, height: int, width: int, scale: float | None = None) -> int:
        """Tokens of a frame of so many pixels, its label included."""
        return self.visual_tokens(height, width, scale) + self._form.text_tokens()

    def visual_tokens(self, height: int, width: int, scale: float | None) -> int:
        """By the rule that resizes frames."""
        return self._scale.shape(height, width, scale).tokens

    def check_scales(self, scales: Collection[float | None]) -> None:
        """Raise where all frames have one size, or where a video would have several."""
        shapes = [self._scale.shape(*_USUAL_FRAME, scale) for scale in scales]
        self._form.pictures(shapes, [float(second) for second in range(len(shapes))])

    def check_subtitles(self) -> None:
        """Raise where the prompt puts subtitles between the frames of a video."""
        if self.form == "video":
            self.prompt.check_in_one()

    @cached_property
    def _scale(self) -> FrameScale:
        return self.scale_rule(self.min_pixels, self.max_pixels, self.frame_size)

    @property
    @abstractmethod
    def _form(self) -> Form:
        """The form that is set."""

    @abstractmethod
    def _time_told(self) -> str:
        """How the model learns when a frame was, in one line."""


def _memory_pieces(made: Prepared | Answer) -> dict[int, int]:
    """What a prepared request holds in memory; an answer that is known already holds nothing to speak of."""
    return {} if isinstance(made, Answer) else pieces_of(made.prompt)
