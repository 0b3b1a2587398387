"""Aria, the model that GenS was made of, as an answerer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.answerers import AnswererLimits
from pipeline.answerers.local import LocalAnswerer
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.families.aria import ARIA, NAMES
from pipeline.families.aria.processor import AriaForm, AriaProcessor, AriaShape, open_processor, shape_of
from pipeline.families.chat import FrameLabels
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import Model, Opened
from pipeline.identity import Label


@dataclass(frozen=True)
class Aria(LocalAnswerer):
    """Answers from frames with ``rhymes-ai/Aria`` or ``Aria-Chat``: each an image of 128 tokens on 490 x 490 pixels."""

    kind: ClassVar[str] = "aria"

    name: Label[str]
    checkpoint: Checkpoint
    images: FrameLabels
    prompt: AnswerPrompt
    max_new_tokens: int

    def limits(self) -> AnswererLimits:
        """Read from ``config.json``."""
        found = self._sizes()
        return AnswererLimits(
            context_tokens=found.context_tokens,
            tokens_per_frame=found.frame_tokens + AriaForm(self.images).text_tokens(),
            max_frames=None,
            time_told=self.images.time_told(),
        )

    def open(self) -> Opened[AriaProcessor]:
        """Read the tokenizer."""

        def load() -> Model:
            from pipeline.families.aria.model import load_aria

            return load_aria(self.checkpoint)

        return Opened(open_processor(self.checkpoint, self.images), load)

    def check_family(self) -> None:
        """Check by its ``config.json`` that the checkpoint is of this family."""
        self._sizes()

    def _sizes(self) -> AriaShape:
        return shape_of(self.checkpoint, {ARIA: NAMES[ARIA]})
