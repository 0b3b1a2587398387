"""GLM-4.6V as an answerer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from pipeline.answerers import AnswererLimits
from pipeline.answerers.local import LocalAnswerer
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.families.glm import NAMES
from pipeline.families.glm.processor import GlmForm, GlmProcessor, GlmScale, ImagesForm, VideoForm, open_processor
from pipeline.families.labels import FrameLabels
from pipeline.families.loading.checkpoint import Checkpoint, context_tokens, model_type
from pipeline.families.seam import Model, Opened
from pipeline.families.thinking import Thinking, ThinkingSettings
from pipeline.generation.limits import OutputLimits
from pipeline.identity import Label

_USUAL_FRAME = (720, 1280)


@dataclass(frozen=True)
class Glm(LocalAnswerer):
    """Answers from frames with a GLM-4.6V checkpoint, or another of its architecture (arXiv 2507.01006)."""

    kind: ClassVar[str] = "glm"

    name: Label[str]
    checkpoint: Checkpoint
    form: Literal["images", "video"]
    """``images``: each frame with its second before it; ``video``: one video, each frame with its second behind it."""
    images: FrameLabels
    min_pixels: int
    """Area below which a frame is enlarged; a token is 28 x 28 pixels."""
    max_pixels: int
    """Area above which a frame is reduced."""
    frame_size: tuple[int, int] | None
    """Height and width of every frame, in place of the two limits."""
    thinking: Thinking
    max_thinking_tokens: int
    """A limit for each thought."""
    prompt: AnswerPrompt
    system: str | None
    """The system turn; None leaves it to the checkpoint's chat template."""
    max_new_tokens: int
    """A limit for each answer, without its thought."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._scale  # settings that cannot be are known now
        self._thinking.check_prefix(self.prompt.name, self.prompt.answer_prefix)

    def limits(self) -> AnswererLimits:
        """From the settings and ``config.json``; a frame of the usual size is one of 1280 x 720 pixels."""
        self.check_family()
        return AnswererLimits(
            context_tokens=context_tokens(self.checkpoint),
            tokens_per_frame=self.frame_tokens(*_USUAL_FRAME),
            max_frames=None,
            time_told=self._form.time_told(),
        )

    def frame_tokens(self, height: int, width: int) -> int:
        """Of a frame of so many pixels, its label included."""
        return self._scale.tokens(height, width) + self._form.text_tokens()

    def output_tokens(self) -> int:
        """Of a thought, where one may come, and the answer."""
        return self.output_limits(self.processor).total

    def check_checkpoint(self) -> None:
        """What its tokenizer and its chat template say, without weights.

        Raises:
            CheckpointError, ConfigError: they cannot do what the settings want.
        """
        processor: GlmProcessor = self.processor
        processor.switch.check_prefix(self.prompt.name, self.prompt.answer_prefix)

    def check_subtitles(self) -> None:
        """Raise where the prompt puts subtitles between the frames of a video."""
        if self.form == "video":
            self.prompt.check_in_one()

    def open(self) -> Opened[GlmProcessor]:
        """Read tokenizer and image settings."""
        processor = open_processor(self.checkpoint, self._scale, self._form, self.system, self._thinking)

        def load() -> Model:
            from pipeline.families.glm.model import load_glm

            return load_glm(self.checkpoint, processor)

        return Opened(processor, load)

    def output_limits(self, processor: GlmProcessor) -> OutputLimits:
        """Of a thought, where one may come, and of the answer."""
        return processor.switch.limits(self.max_new_tokens, processor.tokenizer)

    def check_family(self) -> None:
        """Check by its ``config.json`` that the checkpoint is of this family."""
        model_type(self.checkpoint, NAMES)

    @cached_property
    def _scale(self) -> GlmScale:
        return GlmScale(self.min_pixels, self.max_pixels, self.frame_size)

    @cached_property
    def _thinking(self) -> ThinkingSettings:
        return ThinkingSettings(self.thinking, None, self.max_thinking_tokens)

    @property
    def _form(self) -> GlmForm:
        return ImagesForm(self.images) if self.form == "images" else VideoForm()
