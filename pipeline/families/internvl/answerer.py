"""InternVL3 as an answerer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.answerers import AnswererLimits
from pipeline.answerers.local import LocalAnswerer
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.families.chat import FrameLines
from pipeline.families.internvl.processor import InternVLProcessor, LinesForm, open_processor, shape_of
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import Model, Opened
from pipeline.identity import Label


@dataclass(frozen=True)
class InternVL(LocalAnswerer):
    """Answers from frames with an ``OpenGVLab/InternVL3-*-hf`` checkpoint, each a line with an image of 256 tokens."""

    kind: ClassVar[str] = "internvl"

    name: Label[str]
    checkpoint: Checkpoint
    images: FrameLines
    prompt: AnswerPrompt
    system: str | None
    """The system turn; None leaves it to the checkpoint's chat template."""
    max_new_tokens: int

    def limits(self) -> AnswererLimits:
        """Read from ``config.json``."""
        found = shape_of(self.checkpoint)
        return AnswererLimits(
            context_tokens=found.context_tokens,
            tokens_per_frame=found.frame_tokens + LinesForm(self.images).text_tokens(),
            max_frames=None,
            time_told=self.images.time_told(),
        )

    def open(self) -> Opened[InternVLProcessor]:
        """Read tokenizer and image settings."""
        processor = open_processor(self.checkpoint, self.images, self.system)

        def load() -> Model:
            from pipeline.families.internvl.model import load_internvl

            return load_internvl(self.checkpoint, processor)

        return Opened(processor, load)

    def check_family(self) -> None:
        """Check by its ``config.json`` that the checkpoint is of this family."""
        shape_of(self.checkpoint)
