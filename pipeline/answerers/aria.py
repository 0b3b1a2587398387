"""Aria (Li et al. 2024, arXiv 2410.05993), the model that GenS was made of, as an answerer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from pipeline.answerers import AnswererLimits
from pipeline.answerers.aria_reader import AriaReader, frame_tokens
from pipeline.answerers.labels import FrameLabels
from pipeline.answerers.local import LocalAnswerer, LocalModel
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.identity import Label
from pipeline.models.aria_native import load_native, shape
from pipeline.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class Aria(LocalAnswerer[AriaReader]):
    """Answers from frames with ``rhymes-ai/Aria`` or ``Aria-Chat``: each an image of 128 tokens on 490 x 490 pixels."""

    kind: ClassVar[str] = "aria"

    name: Label[str]
    checkpoint: Checkpoint
    images: FrameLabels
    prompt: AnswerPrompt
    max_new_tokens: int

    def __post_init__(self) -> None:
        _ = self._local  # settings that cannot be are known now

    def limits(self) -> AnswererLimits:
        """Read from ``config.json``."""
        found = shape(self.checkpoint)
        return AnswererLimits(
            context_tokens=found.context_tokens,
            tokens_per_frame=frame_tokens(found, self.images),
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
    def _local(self) -> LocalModel[AriaReader]:
        return LocalModel(
            lambda: AriaReader.open(self.checkpoint, self.images),
            lambda: load_native(self.checkpoint),
            self.prompt,
            self.max_new_tokens,
            self.checkpoint.source,
        )
