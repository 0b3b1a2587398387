"""Qwen2-VL and Qwen2.5-VL as answerers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.answerers import AnswererLimits
from pipeline.answerers.labels import FrameLabels
from pipeline.answerers.local import LocalAnswerer, LocalModel
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.answerers.qwen_forms import ImagesForm, QwenForm, VideoForm
from pipeline.answerers.qwen_reader import QwenReader
from pipeline.identity import Label
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.qwen_family import context_tokens, family, load_qwen
from pipeline.models.qwen_pixels import FrameScale

if TYPE_CHECKING:
    pass

_USUAL_FRAME = (720, 1280)


@dataclass(frozen=True)
class QwenVL(LocalAnswerer[QwenReader]):
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
    """The system turn; none leaves it to the checkpoint's chat template."""
    max_new_tokens: int

    def __post_init__(self) -> None:
        _ = self._scale, self._local  # settings that cannot be are known now

    def limits(self) -> AnswererLimits:
        """From the settings and ``config.json``; a frame of the usual size is one of 1280 x 720 pixels."""
        found = self._family()  # says what another model is, before its config is taken for a Qwen's
        return AnswererLimits(
            context_tokens=context_tokens(self.checkpoint),
            tokens_per_frame=self.frame_tokens(*_USUAL_FRAME),
            max_frames=None,
            time_told=self._form.time_told(found),
        )

    def frame_tokens(self, height: int, width: int) -> int:
        """Of a frame of so many pixels, its label included."""
        return self._scale.tokens(height, width) + self._form.text_tokens()

    def identity(self) -> Mapping[str, Any]:
        """The checkpoint's content and every other setting that decides the answers.

        Raises:
            CheckpointError: the checkpoint is of another model; the error names it.
        """
        self._family()
        return super().identity()

    def check_subtitles(self) -> None:
        """See :class:`pipeline.answerers.ChecksSubtitles`."""
        if self.form == "video":
            self.prompt.check_in_one()

    @cached_property
    def _scale(self) -> FrameScale:
        return FrameScale(self.min_pixels, self.max_pixels, self.frame_size)

    @property
    def _form(self) -> QwenForm:
        return ImagesForm(self.images) if self.form == "images" else self.video

    @cached_property
    def _local(self) -> LocalModel[QwenReader]:
        return LocalModel(self._open_reader, self._load, self.prompt, self.max_new_tokens, self.checkpoint.source)

    def _family(self) -> str:
        return family(self.checkpoint)

    def _open_reader(self) -> QwenReader:
        return QwenReader.open(self.checkpoint, self._scale, self._form, self.system)

    def _load(self) -> Any:
        return load_qwen(self.checkpoint)
