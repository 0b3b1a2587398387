"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL as answerers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from pipeline.answerers import AnswererLimits
from pipeline.answerers.local import LocalAnswerer
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.families.labels import FrameLabels
from pipeline.families.loading.checkpoint import Checkpoint, context_tokens, model_type
from pipeline.families.pixels import FrameScale
from pipeline.families.qwen import NAMES, NAMES_3
from pipeline.families.qwen.forms import ImagesForm, QwenForm, TimedVideoForm, VideoForm
from pipeline.families.qwen.processor import FrameScale3, QwenProcessor, open_processor
from pipeline.families.seam import Model, Opened
from pipeline.identity import Label

_USUAL_FRAME = (720, 1280)


@dataclass(frozen=True)
class QwenVL(LocalAnswerer):
    """Answers from frames with a checkpoint of the Qwen2-VL or Qwen2.5-VL family; its ``config.json`` says which."""

    kind: ClassVar[str] = "qwen_vl"
    """Part of the identity."""

    name: Label[str]
    checkpoint: Checkpoint
    form: Literal["images", "video"]
    """Which of the two below is used."""
    images: FrameLabels
    video: VideoForm
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

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._scale  # settings that cannot be are known now

    def limits(self) -> AnswererLimits:
        """From the settings and ``config.json``; a frame of the usual size is one of 1280 x 720 pixels."""
        kind = self._model_type()  # says what another model is, before its config is taken for a Qwen's
        return AnswererLimits(
            context_tokens=context_tokens(self.checkpoint),
            tokens_per_frame=self.frame_tokens(*_USUAL_FRAME),
            max_frames=None,
            time_told=self._form.time_told(kind),
        )

    def frame_tokens(self, height: int, width: int) -> int:
        """Of a frame of so many pixels, its label included."""
        return self._scale.tokens(height, width) + self._form.text_tokens()

    def check_subtitles(self) -> None:
        """Raise where the prompt puts subtitles between the frames of a video."""
        if self.form == "video":
            self.prompt.check_in_one()

    def open(self) -> Opened[QwenProcessor]:
        """Read tokenizer and image settings."""
        processor = open_processor(self.checkpoint, self._scale, self._form, self.system)

        def load() -> Model:
            from pipeline.families.qwen.model import load_qwen

            return load_qwen(self.checkpoint, processor)

        return Opened(processor, load)

    def check_family(self) -> None:
        """Check by its ``config.json`` that the checkpoint is of this family."""
        self._model_type()

    @cached_property
    def _scale(self) -> FrameScale:
        return FrameScale(self.min_pixels, self.max_pixels, self.frame_size)

    @property
    def _form(self) -> QwenForm:
        return ImagesForm(self.images) if self.form == "images" else self.video

    def _model_type(self) -> str:
        return model_type(self.checkpoint, NAMES)


@dataclass(frozen=True)
class Qwen3VL(QwenVL):
    """Answers from frames with a Qwen3-VL checkpoint (arXiv 2511.21631), dense or with experts."""

    kind: ClassVar[str] = "qwen3_vl"
    video: TimedVideoForm

    @cached_property
    def _scale(self) -> FrameScale:
        return FrameScale3(self.min_pixels, self.max_pixels, self.frame_size)

    def _model_type(self) -> str:
        return model_type(self.checkpoint, NAMES_3)
