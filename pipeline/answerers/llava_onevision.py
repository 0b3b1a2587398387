"""LLaVA-OneVision (Li et al. 2024, arXiv 2408.03326) in the form that transformers loads by itself."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pipeline.answerers import AnswererLimits, AnswerRequest
from pipeline.answerers.llava_onevision_frames import ImagesForm, Tower, VideoForm
from pipeline.answerers.options import conclude
from pipeline.answerers.prompts import AnswerPrompt, question_fault
from pipeline.domain import Answer, Cost, Status
from pipeline.errors import CheckpointError, ConfigError, OutOfMemoryError
from pipeline.models.checkpoint import Checkpoint, fingerprint, load, raw_config, release, resolve

if TYPE_CHECKING:
    import torch

    from pipeline.answerers.llava_onevision_inputs import LlavaInputs
    from pipeline.inference.greedy import Generated

_FAMILY = "llava_onevision"


@dataclass(frozen=True)
class LlavaOnevision:
    """Answers from frames with a ``llava-hf/llava-onevision-qwen2-*-ov-hf`` checkpoint, or one like it."""

    name: str
    checkpoint: Checkpoint
    form: Literal["images", "video"]
    """``images``: each frame with its second before it; ``video``: a quarter of the tokens, and no times."""
    images: ImagesForm
    """Used by the form of that name."""
    prompt: AnswerPrompt
    max_new_tokens: int

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(
                f"answerer.max_new_tokens is {self.max_new_tokens}: no answer fits in it",
                "answerer.max_new_tokens=16",
            )

    def limits(self) -> AnswererLimits:
        """Read from ``config.json``."""
        form, tower = self._form, self._tower
        return AnswererLimits(
            context_tokens=self._context,
            tokens_per_frame=sum(form.counts(tower, 2)) - sum(form.counts(tower, 1)) + form.text_tokens(),
            max_frames=None,
            time_told=form.time_told(),
        )

    def identity(self) -> Mapping[str, Any]:
        """All that decides the answers."""
        return {
            "answerer": _FAMILY,
            "checkpoint": fingerprint(self.checkpoint),
            "dtype": self.checkpoint.dtype,
            "form": self.form,
            self.form: asdict(self._form),
            "prompt": asdict(self.prompt),
            "max_new_tokens": self.max_new_tokens,
        }

    def encode(self, request: AnswerRequest) -> Mapping[str, torch.Tensor]:
        """The very arguments of ``forward`` for this request alone. Loads the tokenizer and no weights."""
        inputs = self._inputs
        return inputs.batch([inputs.prepare(request.frames, self.prompt.render(request.question))])

    def answer(self, requests: Sequence[AnswerRequest]) -> list[Answer]:
        """One answer a request; requests that the model can take together are one batch."""
        answers: dict[int, Answer] = {}
        batches: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            refusal = self._refusal(request)
            if refusal is None:
                batches.setdefault(self._form.alike(len(request.frames)), []).append(place)
            else:
                answers[place] = refusal
        for places in batches.values():
            given = self._answered([requests[place] for place in places])
            answers.update(zip(places, given, strict=True))
        return [answers[place] for place in range(len(requests))]

    def close(self) -> None:
        """Free the model; a later ``answer`` loads it again."""
        model = self.__dict__.pop("_model", None)
        self.__dict__.pop("_inputs", None)
        if model is not None:
            release(model)

    def _refusal(self, request: AnswerRequest) -> Answer | None:
        """The failure that is known before the model is called."""
        question, frames = request.question, request.frames
        if not frames:
            return self._failed(request, Status.NO_FRAMES, "there is no frame to answer from: selection.budget=8")
        if fault := question_fault(question, self._inputs.markup):
            return self._failed(request, Status.INVALID_QUESTION, fault)
        words, room = self.prompt.render(question), self._context - self.max_new_tokens
        prompt = len(self._inputs.prompt_ids(frames, words))
        if prompt <= room:
            return None
        fitting = bisect_right(
            range(1, len(frames)), room, key=lambda n: len(self._inputs.prompt_ids(frames[-n:], words))
        )
        return self._failed(
            request,
            Status.CONTEXT_EXCEEDED,
            f"{len(frames)} frames and the question are {prompt} tokens and {self.max_new_tokens} are kept for the "
            f"answer, more than the {self._context} of the model's context. Try "
            + (f"selection.budget={fitting}" if fitting else "a shorter question: no frame fits in beside this one")
            + self._or_as_video,
        )

    def _answered(self, requests: Sequence[AnswerRequest]) -> list[Answer]:
        """Answers of one batch. What does not fit the memory is tried in halves: the answers are the same."""
        from pipeline.inference.greedy import halving

        _ = self._model  # loading is no part of an answer's time
        begin = time.perf_counter()
        results = halving(self._generate, requests)
        seconds = (time.perf_counter() - begin) / len(requests)
        return [self._answer(*pair, seconds) for pair in zip(requests, results, strict=True)]

    def _generate(self, requests: Sequence[AnswerRequest]) -> list[tuple[int, Generated]]:
        """Of each request, the tokens of its prompt and what the model wrote."""
        from pipeline.inference.greedy import generate_greedily, mapped_out_of_memory

        inputs = self._inputs
        with mapped_out_of_memory():
            prepared = [inputs.prepare(asked.frames, self.prompt.render(asked.question)) for asked in requests]
            batch = inputs.batch(prepared)
        written = generate_greedily(self._model, inputs.tokenizer, batch, self.max_new_tokens)
        return [(len(asked.ids), said) for asked, said in zip(prepared, written, strict=True)]

    def _answer(
        self, request: AnswerRequest, result: tuple[int, Generated] | OutOfMemoryError, seconds: float
    ) -> Answer:
        if isinstance(result, OutOfMemoryError):
            detail = (
                f"{result.problem} It was tried alone, as with execution.answer_batch=1. Try selection.budget="
                f"{max(1, len(request.frames) // 2)}, answerer.checkpoint.device=spread over more GPUs, or a smaller "
                f"answerer=NAME{self._or_as_video}"
            )
            return self._failed(request, Status.OUT_OF_MEMORY, detail)
        prompt, said = result
        return conclude(
            request.question,
            said.text,
            truncated=not said.ended,
            form=self._described,
            frame_times=tuple(frame.time for frame in request.frames),
            cost=Cost(seconds, prompt, len(said.tokens)),
        )

    @property
    def _or_as_video(self) -> str:
        return ", or answerer.form=video" if self.form == "images" else ""

    def _failed(self, request: AnswerRequest, status: Status, detail: str) -> Answer:
        return Answer(
            question_id=request.question.id,
            text="",
            status=status,
            detail=detail,
            form=self._described,
            frame_times=tuple(frame.time for frame in request.frames),
        )

    @property
    def _form(self) -> ImagesForm | VideoForm:
        return self.images if self.form == "images" else VideoForm()

    @property
    def _described(self) -> str:
        side = self._tower.image_size
        return f"{self.form} of {side} x {side} pixels; time {self._form.time_told()}"

    @cached_property
    def _config(self) -> Mapping[str, Any]:
        config = raw_config(self.checkpoint)
        family, classes = config.get("model_type"), config.get("architectures") or ["none"]
        if family != _FAMILY or config.get("vision_feature_select_strategy", "full") != "full":
            raise CheckpointError(
                f"{self.checkpoint.source} is a {family} ({classes[0]}), which this answerer does not load",
                "answerer.checkpoint.source=llava-hf/llava-onevision-qwen2-7b-ov-hf, or the answerer of its family: "
                "`gens list answerers` names them",
            )
        return config

    @cached_property
    def _tower(self) -> Tower:
        # Saved configurations leave out what is the class's default: SigLIP's size and patch, LLaVA's token ids.
        vision: Mapping[str, Any] = self._config.get("vision_config") or {"image_size": 384, "patch_size": 14}
        config = self._config
        return Tower(
            image_size=vision.get("image_size", 224),
            patch_size=vision.get("patch_size", 16),
            image_token_id=config.get("image_token_index", config.get("image_token_id", 151646)),
            video_token_id=config.get("video_token_index", config.get("video_token_id", 151647)),
        )

    @property
    def _context(self) -> int:
        return int((self._config.get("text_config") or {}).get("max_position_embeddings", 32768))

    @cached_property
    def _inputs(self) -> LlavaInputs:
        from pipeline.answerers.llava_onevision_inputs import LlavaInputs

        return LlavaInputs.load(resolve(self.checkpoint), self._tower, self._form)

    @cached_property
    def _model(self) -> Any:
        from transformers import LlavaOnevisionForConditionalGeneration

        return load(LlavaOnevisionForConditionalGeneration, self.checkpoint)
