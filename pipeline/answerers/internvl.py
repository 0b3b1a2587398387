"""InternVL3 (Zhu et al. 2025, arXiv 2504.10479) in the form that transformers loads by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from pipeline.answerers import AnswererLimits
from pipeline.answerers.internvl_forms import FrameLines
from pipeline.answerers.internvl_reader import AROUND, InternVLReader
from pipeline.answerers.local import LocalAnswerer, LocalModel
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.identity import Label
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.internvl_family import load_internvl, shape


@dataclass(frozen=True)
class InternVL(LocalAnswerer[InternVLReader]):
    """Answers from frames with an ``OpenGVLab/InternVL3-*-hf`` checkpoint, each a line with an image of 256 tokens."""

    kind: ClassVar[str] = "internvl"

    name: Label[str]
    checkpoint: Checkpoint
    images: FrameLines
    prompt: AnswerPrompt
    system: str | None
    """The system turn; none leaves it to the checkpoint's chat template."""
    max_new_tokens: int

    def __post_init__(self) -> None:
        _ = self._local  # settings that cannot be are known now

    def limits(self) -> AnswererLimits:
        """Read from ``config.json``."""
        found = shape(self.checkpoint)
        return AnswererLimits(
            context_tokens=found.context_tokens,
            tokens_per_frame=found.frame_tokens + AROUND + self.images.most_tokens(),
            max_frames=None,
            time_told=self.images.time_told(),
        )

    def identity(self) -> Mapping[str, Any]:
        """The checkpoint's content and every other setting that decides the answers.

        Raises:
            CheckpointError: the checkpoint is of another model; the error names it.
        """
        shape(self.checkpoint)
        return super().identity()

    @cached_property
    def _local(self) -> LocalModel[InternVLReader]:
        return LocalModel(
            lambda: InternVLReader.open(self.checkpoint, self.images, self.system),
            lambda: load_internvl(self.checkpoint),
            self.prompt,
            self.max_new_tokens,
            self.checkpoint.source,
        )
