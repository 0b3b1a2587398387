"""LLaVA-Video as an answerer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from pipeline.answerers import AnswererLimits
from pipeline.answerers.local import LocalAnswerer
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.families.chat import TimeInstruction, TimeSentence
from pipeline.families.llava_video.processor import (
    LlavaVideoProcessor,
    Pooling,
    context_tokens,
    frame_tokens,
    llava_video_config,
    newlines_of,
    open_processor,
    pooling_of,
)
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import Model, Opened
from pipeline.identity import Label


@dataclass(frozen=True)
class LlavaVideo(LocalAnswerer):
    """Answers from frames with ``lmms-lab/LLaVA-Video-*-Qwen2``, or a checkpoint like it.

    ``lmms-lab/llava-onevision-qwen2-*`` is one: the same files, and one newline token at the end of a video.
    """

    kind: ClassVar[str] = "llava_video"

    name: Label[str]
    checkpoint: Checkpoint
    pooling: Literal["checkpoint", "bilinear", "average"]
    """How a frame's 27 x 27 patches are pooled: as the config says, to 14 x 14, or to 13 x 13 (lmms-eval's default)."""
    time_instruction: TimeInstruction
    """``official``: the paper's sentence, true only of uniformly sampled frames; ``selected``: true of any."""
    prompt: AnswerPrompt
    max_new_tokens: int

    def limits(self) -> AnswererLimits:
        """Read from ``config.json``."""
        return AnswererLimits(
            context_tokens=context_tokens(self._config),
            tokens_per_frame=frame_tokens(self._pooling, newlines_of(self._config, self.checkpoint.source))
            + self._times.text_tokens(),
            max_frames=None,
            time_told=self._times.time_told(),
        )

    def identity(self) -> Mapping[str, Any]:
        """The checkpoint's content and every other setting that decides the answers; the pooling as it is in effect.

        Raises:
            CheckpointError: the checkpoint is of another model; the error names it.
        """
        return {**super().identity(), "pooling": self._pooling}

    def check_subtitles(self) -> None:
        """Raise where the prompt puts subtitles between the frames."""
        self.prompt.check_in_one()

    def open(self) -> Opened[LlavaVideoProcessor]:
        """Read the tokenizer."""
        processor = open_processor(self.checkpoint, self._config, self._pooling, self._times)

        def load() -> Model:
            from pipeline.families.llava_video.model import load_llava_video

            return load_llava_video(self.checkpoint, processor)

        return Opened(processor, load)

    def check_family(self) -> None:
        """Check by its ``config.json`` that the checkpoint is of this family."""
        _ = self._config

    @property
    def _times(self) -> TimeSentence:
        return TimeSentence(self.time_instruction)

    @cached_property
    def _config(self) -> Mapping[str, Any]:
        return llava_video_config(self.checkpoint)

    @property
    def _pooling(self) -> Pooling:
        if self.pooling == "checkpoint":
            return pooling_of(self._config, self.checkpoint.source)
        return self.pooling
