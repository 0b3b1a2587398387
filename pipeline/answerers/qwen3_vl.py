"""Qwen3-VL (arXiv 2511.21631), dense and with experts, in process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from pipeline.answerers.qwen3_forms import TimedVideoForm
from pipeline.answerers.qwen3_reader import open_reader
from pipeline.answerers.qwen_reader import QwenReader
from pipeline.answerers.qwen_vl import QwenVL
from pipeline.models.qwen3_family import Qwen3Scale, family, load_qwen3


@dataclass(frozen=True)
class Qwen3VL(QwenVL):
    """Answers from frames with a Qwen3-VL checkpoint; its ``config.json`` says whether it has experts."""

    kind: ClassVar[str] = "qwen3_vl"
    video: TimedVideoForm

    @cached_property
    def _scale(self) -> Qwen3Scale:
        return Qwen3Scale(self.min_pixels, self.max_pixels, self.frame_size)

    def _family(self) -> str:
        return family(self.checkpoint)

    def _open_reader(self) -> QwenReader:
        return open_reader(self.checkpoint, self._scale, self._form, self.system)

    def _load(self) -> Any:
        return load_qwen3(self.checkpoint)
