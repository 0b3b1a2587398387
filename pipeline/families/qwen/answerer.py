"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL as answerers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.answerers.local import ScaledAnswerer
from pipeline.families.loading.checkpoint import model_type
from pipeline.families.pixels import FrameScale
from pipeline.families.qwen import NAMES, NAMES_3
from pipeline.families.qwen.processor import (
    FrameScale3,
    ImagesForm,
    QwenForm,
    QwenProcessor,
    TimedVideoForm,
    VideoForm,
    open_processor,
)
from pipeline.families.seam import Model, Opened


@dataclass(frozen=True)
class QwenVL(ScaledAnswerer):
    """Answers from frames with a checkpoint of the Qwen2-VL or Qwen2.5-VL family; its ``config.json`` says which."""

    kind: ClassVar[str] = "qwen_vl"
    """Part of the identity."""

    video: VideoForm
    """Used by the form of that name."""

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

    @property
    def _form(self) -> QwenForm:
        return ImagesForm(self.images) if self.form == "images" else self.video

    def _time_told(self) -> str:
        return self._form.time_told(self._model_type())

    def _model_type(self) -> str:
        return model_type(self.checkpoint, NAMES)


@dataclass(frozen=True)
class Qwen3VL(QwenVL):
    """Answers from frames with a Qwen3-VL checkpoint (arXiv 2511.21631), dense or with experts."""

    kind: ClassVar[str] = "qwen3_vl"
    scale_rule: ClassVar[type[FrameScale]] = FrameScale3
    video: TimedVideoForm

    def _model_type(self) -> str:
        return model_type(self.checkpoint, NAMES_3)
