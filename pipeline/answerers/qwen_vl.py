"""Qwen2-VL and Qwen2.5-VL as answerers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pipeline.answerers import AnswererLimits, AnswerRequest
from pipeline.answerers.options import conclude
from pipeline.answerers.prompts import AnswerPrompt, question_fault
from pipeline.answerers.qwen_forms import ImagesForm, QwenForm, QwenReader, VideoForm
from pipeline.domain import Answer, Cost, Status
from pipeline.errors import ConfigError, OutOfMemoryError
from pipeline.models.checkpoint import Checkpoint, fingerprint, release, resolve
from pipeline.models.qwen_family import QWEN2_5_VL, context_tokens, family, load_qwen
from pipeline.models.qwen_pixels import FrameScale

if TYPE_CHECKING:
    from pipeline.inference.greedy import Generated
    from pipeline.models.qwen_inputs import QwenInputs

_USUAL_FRAME = (720, 1280)
_SMALLER = "answerer.max_pixels=... (less; 784 pixels are a token), or selection.budget=... (fewer frames)"


@dataclass(frozen=True)
class QwenVL:
    """Answers from frames with a checkpoint of the Qwen2-VL or Qwen2.5-VL family; its ``config.json`` says which."""

    name: str
    checkpoint: Checkpoint
    form: Literal["images", "video"]
    """Which of the two below is used."""
    images: ImagesForm
    video: VideoForm
    min_pixels: int
    """Area below which a frame is enlarged; a token is 28 x 28 pixels."""
    max_pixels: int
    """Area above which a frame is reduced."""
    frame_size: tuple[int, int] | None
    """Height and width of every frame, in place of the two limits."""
    prompt: AnswerPrompt
    system: str | None
    """The system turn; none leaves it to the checkpoint's chat template."""
    max_new_tokens: int

    def __post_init__(self) -> None:
        _ = self._scale
        if self.max_new_tokens < 1:
            raise ConfigError(
                f"answerer.max_new_tokens={self.max_new_tokens} leaves no room for an answer.",
                "A letter needs a few: answerer.max_new_tokens=128",
            )

    def limits(self) -> AnswererLimits:
        """From the settings and ``config.json``; a frame of the usual size is one of 1280 x 720 pixels."""
        return AnswererLimits(
            context_tokens=context_tokens(self.checkpoint),
            tokens_per_frame=self._scale.tokens(*_USUAL_FRAME) + self._form.extra_tokens(),
            max_frames=None,
            time_told=self._form.time_told(family(self.checkpoint)),
        )

    def identity(self) -> Mapping[str, Any]:
        """The checkpoint's content, and every setting that reaches the model's inputs."""
        return {
            "answerer": "qwen_vl",
            "checkpoint": fingerprint(self.checkpoint),
            "dtype": self.checkpoint.dtype,
            "form": self.form,
            self.form: asdict(self.images if self.form == "images" else self.video),
            "scale": asdict(self._scale),
            "prompt": asdict(self.prompt),
            "system": self.system,
            "max_new_tokens": self.max_new_tokens,
        }

    def answer(self, requests: Sequence[AnswerRequest]) -> list[Answer]:
        """See :class:`pipeline.answerers.Answerer`. The model runs once for all requests that can be put to it."""
        from pipeline.inference.greedy import halving

        answers: dict[int, Answer] = {}
        ready: list[tuple[int, QwenInputs]] = []
        for place, request in enumerate(requests):
            encoded = self._encoded_or_failure(request)
            if isinstance(encoded, Answer):
                answers[place] = encoded
            else:
                ready.append((place, encoded))
        if ready:
            _ = self._model  # loading is no question's cost
        begin = time.perf_counter()
        results = halving(self._generate, [encoded for _, encoded in ready])
        seconds = (time.perf_counter() - begin) / max(1, len(ready))
        for (place, encoded), result in zip(ready, results, strict=True):
            answers[place] = self._answer(requests[place], encoded, result, seconds)
        return [answers[place] for place in range(len(requests))]

    def encode(self, request: AnswerRequest) -> QwenInputs:
        """The very inputs that the model gets for a request, not padded. Loads the tokenizer and no weights.

        Raises:
            ValueError: the frames cannot be put in this form.
        """
        return self._form.encode(self._reader, request.frames, self.prompt.render(request.question))

    def close(self) -> None:
        """Free the model and its device memory; the next ``answer`` loads it again."""
        model = self.__dict__.pop("_model", None)
        self.__dict__.pop("_reader", None)
        if model is not None:
            release(model)

    @cached_property
    def _scale(self) -> FrameScale:
        return FrameScale(self.min_pixels, self.max_pixels, self.frame_size)

    @property
    def _form(self) -> QwenForm:
        return self.images if self.form == "images" else self.video

    @cached_property
    def _reader(self) -> QwenReader:
        from pipeline.models.chat import load_tokenizer
        from pipeline.models.qwen_pixels import load_image_processor

        family(self.checkpoint)  # says what another model is, before its files are taken for a Qwen's
        folder = resolve(self.checkpoint)
        return QwenReader(load_tokenizer(folder), load_image_processor(folder), self._scale, self.system)

    @cached_property
    def _model(self) -> Any:
        return load_qwen(self.checkpoint)

    def _encoded_or_failure(self, request: AnswerRequest) -> QwenInputs | Answer:
        from pipeline.models.chat import special_tokens

        question = request.question
        fault = question_fault(question, special_tokens(self._reader.tokenizer))
        if fault is not None:
            return Answer(question.id, "", status=Status.INVALID_QUESTION, detail=fault)
        if not request.frames:
            detail = "There is no frame to answer from: see the selection, or selection.fill=uniform"
            return Answer(question.id, "", status=Status.NO_FRAMES, detail=detail)
        try:
            encoded = self.encode(request)
        except ValueError as error:
            detail = f"{error} What to do: answerer.form=images, or answerer.frame_size=[252,448]."
            return Answer(question.id, "", status=Status.UNREADABLE_VIDEO, detail=detail)
        needed, room = encoded.tokens + self.max_new_tokens, context_tokens(self.checkpoint)
        if needed > room:
            detail = (
                f"{len(request.frames)} frames and the question take {encoded.tokens} tokens, the answer up to "
                f"{self.max_new_tokens}, and the model has room for {room}. What to do: {_SMALLER}."
            )
            cost = Cost(prompt_tokens=encoded.tokens)
            return Answer(question.id, "", status=Status.CONTEXT_EXCEEDED, detail=detail, cost=cost)
        return encoded

    def _generate(self, batch: Sequence[QwenInputs]) -> list[Generated]:
        from pipeline.inference.greedy import generate_greedily, pad_token
        from pipeline.models.qwen_inputs import collate
        from pipeline.models.qwen_positions import true_times

        model, tokenizer = self._model, self._reader.tokenizer
        timed = self.form == "video" and family(self.checkpoint) == QWEN2_5_VL
        with true_times(model, [encoded.grid_times for encoded in batch]) if timed else nullcontext():
            inputs = collate(batch, pad_token(model, tokenizer))
            return generate_greedily(model, tokenizer, inputs, self.max_new_tokens)

    def _answer(
        self, request: AnswerRequest, encoded: QwenInputs, result: Generated | OutOfMemoryError, seconds: float
    ) -> Answer:
        times = tuple(frame.time for frame in request.frames)
        if isinstance(result, OutOfMemoryError):
            return Answer(
                request.question.id,
                "",
                status=Status.OUT_OF_MEMORY,
                detail=f"{result.problem} It was tried alone. What to do: {_SMALLER}, or a smaller checkpoint.",
                form=self._described(encoded),
                frame_times=times,
                cost=Cost(seconds, encoded.tokens),
            )
        return conclude(
            request.question,
            result.text,
            truncated=not result.ended,
            form=self._described(encoded),
            frame_times=times,
            cost=Cost(seconds, encoded.tokens, len(result.tokens)),
        )

    def _described(self, encoded: QwenInputs) -> str:
        patches = encoded.images if encoded.images is not None else encoded.video
        assert patches is not None
        _, rows, columns = (int(side) for side in patches.grids[0])
        return f"{self.form} of {rows * 14} x {columns * 14} pixels; times: {self._form.time_told(family(self.checkpoint))}"
