"""What answerers of families that scale each frame by its area have in common: Qwen's rule, which GLM follows too."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from pipeline.answerers import AnswererLimits
from pipeline.answerers.local import LocalAnswerer
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.families.labels import FrameLabels
from pipeline.families.loading.checkpoint import Checkpoint, context_tokens
from pipeline.families.pixels import FrameScale
from pipeline.families.seam import Form
from pipeline.identity import Label

_USUAL_FRAME = (720, 1280)


@dataclass(frozen=True)
class ScaledAnswerer(LocalAnswerer):
    """Settings and limits. A family adds its forms, its rule of resizing, and how to open a checkpoint."""

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

    def frame_tokens(self, height: int, width: int) -> int:
        """Of a frame of so many pixels, its label included."""
        return self._scale.tokens(height, width) + self._form.text_tokens()

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
