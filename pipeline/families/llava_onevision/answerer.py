"""LLaVA-OneVision as an answerer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from pipeline.answerers import AnswererLimits
from pipeline.answerers.local import LocalAnswerer
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.families.chat import FrameLabels, TimeSentence
from pipeline.families.llava_onevision.processor import (
    ImagesForm,
    LlavaForm,
    LlavaProcessor,
    Tower,
    VideoForm,
    context_tokens,
    open_checkpoint,
    tower_of,
)
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import Opened
from pipeline.identity import Label


@dataclass(frozen=True)
class LlavaOnevision(LocalAnswerer):
    """Answers from frames with a ``llava-hf/llava-onevision-qwen2-*-ov-hf`` checkpoint, or one like it."""

    kind: ClassVar[str] = "llava_onevision"

    name: Label[str]
    checkpoint: Checkpoint
    form: Literal["images", "video"]
    """``images``: each frame with its second before it; ``video``: a quarter of the tokens, and a sentence with all."""
    images: FrameLabels
    """Used by the form of that name."""
    time_instruction: Literal["selected", "none"]
    """Used by the form ``video``: LLaVA-Video's sentence, changed to be true of any frames, or no times."""
    prompt: AnswerPrompt
    max_new_tokens: int

    def limits(self) -> AnswererLimits:
        """Read from ``config.json``."""
        return AnswererLimits(
            context_tokens=context_tokens(self.checkpoint),
            tokens_per_frame=self._form.tokens(self._tower) + self._form.text_tokens(),
            max_frames=None,
            time_told=self._form.time_told(),
        )

    def check_subtitles(self) -> None:
        """Raise where the prompt puts subtitles between the frames of a video."""
        if self.form == "video":
            self.prompt.check_in_one()

    def open(self) -> Opened[LlavaProcessor]:
        """Read tokenizer and image settings."""
        return open_checkpoint(self.checkpoint, self._form)

    def check_family(self) -> None:
        """Check by its ``config.json`` that the checkpoint is of this family."""
        _ = self._tower

    @property
    def _form(self) -> LlavaForm:
        return ImagesForm(self.images) if self.form == "images" else VideoForm(TimeSentence(self.time_instruction))

    @cached_property
    def _tower(self) -> Tower:
        return tower_of(self.checkpoint)
