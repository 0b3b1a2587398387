"""Any model that transformers loads by itself, asked in the way of its own processor and chat template."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.answerers import AnswererLimits
from pipeline.answerers.local import LocalAnswerer
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.domain import Frame
from pipeline.errors import ConfigError
from pipeline.families.chat import FrameLabels, marked_text
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import Opened, Words
from pipeline.families.thinking import Thinking, ThinkingSettings
from pipeline.families.transformers.bounds import USUAL_SIZE, FrameBounds
from pipeline.families.transformers.inputs import NativeInputs, Shown, marks_found
from pipeline.families.transformers.kind import kind_of, tell_of_family
from pipeline.families.transformers.loading import load_model, with_attention
from pipeline.families.transformers.processor import NativeProcessor, Settings
from pipeline.families.transformers.templates import Turn, template_file
from pipeline.generation.limits import OutputLimits
from pipeline.identity import Label, digest

if TYPE_CHECKING:
    from pipeline.generation.texts import Writer


@dataclass(frozen=True)
class NativeRequestProcessor:
    """Frames and words of requests, put to one checkpoint's processor."""

    processor: NativeProcessor
    labels: FrameLabels

    @property
    def context_tokens(self) -> int:
        """The context length that the config states."""
        return self.processor.kind.context_tokens

    @property
    def markup(self) -> Sequence[str]:
        """Strings that the tokenizer or the template reads as markup."""
        return self.processor.markup

    @property
    def smaller(self) -> Sequence[str]:
        """Settings by which frames take fewer tokens."""
        return self.processor.bounds.smaller(self.processor.kind.model_type)

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's."""
        return self.processor.tokenizer

    def describe(self, frames: Sequence[Frame]) -> str:
        """How frames, times and thinking are put to the model, in one line."""
        video = self.processor.video
        shown = self.processor.bounds.describe(self.processor.kind.model_type)
        if video is not None:
            shown = f"{video.describe()} of {shown.partition(',')[0]}"
        return f"{shown}; time: {self.time_told()}; {self.processor.switch.told}"

    def time_told(self) -> str:
        """How times are told: by the labels, or by the model's own video."""
        video = self.processor.video
        return self.labels.time_told() if video is None else video.time_told()

    def count(self, frames: Sequence[Frame], words: Words) -> int:
        """The length of the prompt, as measured on blank frames."""
        return self.processor.count(frames, self._turn(frames, words), words.video_end)

    def prepared(self, frames: Sequence[Frame]) -> Shown:
        """Scaled; the checkpoint's processor is given them with the first question."""
        return self.processor.shown(frames)

    def prompt(self, prepared: Shown, frames: Sequence[Frame], words: Words) -> NativeInputs:
        """The inputs that the checkpoint's processor makes."""
        return self.processor.encode(prepared, self._turn(frames, words), words.video_end)

    def sent(self, prompt: NativeInputs) -> str:
        """The prompt as the checkpoint's processor wrote it, with a mark for each frame."""
        ids, shown = prompt.input_ids.tolist(), prompt.picture_tokens
        marks = marks_found(ids, shown, prompt.times)
        return marked_text(ids, shown, marks, lambda some: str(self.tokenizer.decode(some, skip_special_tokens=False)))

    def measured(self, prompt: NativeInputs) -> Mapping[str, float]:
        """Pixels and patches as far as the processor's tensors have a known layout."""
        count = sum(token in prompt.picture_tokens for token in prompt.input_ids.tolist())
        return {**prompt.frames.measured(), "visual_tokens": count}

    def _turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        if self.processor.video is not None:
            return Turn((), "", words.in_one, words.system, words.begun)
        before = tuple(
            said + self.labels.before(frame.time) for said, frame in zip(words.before(frames), frames, strict=True)
        )
        return Turn(before, self.labels.after, words.text, words.system, words.begun)


@dataclass(frozen=True)
class Transformers(LocalAnswerer):
    """Answers from labelled frames with any multimodal checkpoint that transformers loads without remote code."""

    kind: ClassVar[str] = "transformers"

    name: Label[str]
    checkpoint: Checkpoint
    form: Literal["images", "video"]
    """``images``: each frame with its second before it; ``video``: the type's own, where it tells true times."""
    images: FrameLabels
    frame: FrameBounds
    processor_kwargs: dict[str, Any]
    """Keywords for the checkpoint's own processor; each must change something."""
    template: str | None
    """A name among the checkpoint's templates, or a Jinja file; None takes its own."""
    template_date: str
    """Today, to templates that write it, as in ``2026-01-01``: the same prompt is asked on any day."""
    template_variables: dict[str, Any]
    """Values for the template, such as ``reasoning_effort``; it must read each."""
    thinking: Thinking
    thinking_variable: str | None
    """The template's variable that switches thinking; None finds it."""
    max_thinking_tokens: int
    """A limit for each thought."""
    prompt: AnswerPrompt
    system: str | None
    """The system turn; None leaves it to the template."""
    max_new_tokens: int
    """A limit for each answer, without its thought."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._today
        self._thinking.check_prefix(self.prompt.name, self.prompt.answer_prefix)

    def check_checkpoint(self) -> None:
        """Everything that can be known without weights: class, processor, template, thinking, tokens of a frame.

        Raises:
            CheckpointError, ConfigError, MissingExtraError: it cannot be used; the error says what to do.
        """
        with_attention(self.checkpoint, self._native.kind)
        self._native.check()
        self._native.switch.check_prefix(self.prompt.name, self.prompt.answer_prefix)

    def check_subtitles(self) -> None:
        """Raise where the prompt puts subtitles between the frames of a video."""
        if self.form == "video":
            self.prompt.check_in_one()

    def limits(self) -> AnswererLimits:
        """Measured with the checkpoint's processor; no weights."""
        reader = self.processor
        return AnswererLimits(
            context_tokens=reader.context_tokens,
            tokens_per_frame=self.frame_tokens(*USUAL_SIZE),
            max_frames=None,
            time_told=reader.time_told(),
        )

    def frame_tokens(self, height: int, width: int, scale: float | None = None) -> int:
        """Tokens of one frame among others, its label included."""
        label = self.images.most_tokens() if self.form == "images" else 0
        return self.visual_tokens(height, width, scale) + label

    def visual_tokens(self, height: int, width: int, scale: float | None) -> int:
        """Measured with the checkpoint's processor, with the marks that it writes around a picture."""
        return self._native.frame_tokens(height, width, scale)

    def check_scales(self, scales: Collection[float | None]) -> None:
        """Raise where all frames take the same tokens, or where a video would have several sizes."""
        self._native.check_scales(scales)

    def output_tokens(self) -> int:
        """Tokens of the answer, and of a thought where one may come."""
        return self._local.limits.total

    def identity(self) -> Mapping[str, Any]:
        """The settings, the content of a template file, and the version of transformers, whose processors are used.

        Raises:
            CheckpointError: transformers does not load the checkpoint by itself.
        """
        kind = kind_of(self.checkpoint)
        path = template_file(self.template)
        return {
            **super().identity(),
            "template": self.template if path is None else digest(path.read_text(encoding="utf-8")),
            "model": [kind.model_type, kind.class_name],
            "transformers": importlib.metadata.version("transformers"),
        }

    @cached_property
    def _thinking(self) -> ThinkingSettings:
        return ThinkingSettings(self.thinking, self.thinking_variable, self.max_thinking_tokens)

    @property
    def _today(self) -> date:
        try:
            return date.fromisoformat(self.template_date)
        except ValueError as error:
            raise ConfigError(
                f"answerer.template_date={self.template_date!r} is no date.",
                "Set one: answerer.template_date=2026-01-01",
            ) from error

    @property
    def _native(self) -> NativeProcessor:
        native: NativeProcessor = self.processor.processor
        return native

    def check_family(self) -> None:
        """Check that transformers loads the type by itself."""
        kind_of(self.checkpoint)

    def open(self) -> Opened[NativeRequestProcessor]:
        """Read processor and template."""
        kind = kind_of(self.checkpoint)
        tell_of_family(self.checkpoint.source, kind.model_type)
        settings = Settings(
            self.form,
            self.frame,
            self.processor_kwargs,
            self.template,
            self._today,
            self.template_variables,
            self._thinking,
            self.system,
        )
        processor = NativeProcessor(self.checkpoint, kind, settings)

        def load() -> Any:
            from pipeline.families.transformers.generation import prepared

            return prepared(load_model(self.checkpoint), processor)

        return Opened(NativeRequestProcessor(processor, self.images), load)

    def output_limits(self, processor: NativeRequestProcessor) -> OutputLimits:
        """Limits of the answer, and of a thought where one may come."""
        return processor.processor.switch.limits(self.max_new_tokens, processor.tokenizer)

    def writer(self, model: Any, limits: OutputLimits) -> Writer[str]:
        """A writer that shares prefixes as far as the model's cache allows."""
        made: Writer[str] = model.writer(limits)
        return made
