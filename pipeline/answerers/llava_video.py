"""LLaVA-Video (Zhang et al. 2024, arXiv 2410.02713) from its authors' own checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.answerers import AnswererLimits, AnswerRequest
from pipeline.answerers.llava_video_forms import VideoForm
from pipeline.answerers.llava_video_reader import LlavaVideoReader
from pipeline.answerers.local import LocalAnswerer, LocalModel
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.answerers.time_instruction import TimeInstruction, TimeSentence
from pipeline.identity import Label
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.llava_video_config import (
    Pooling,
    context_tokens,
    frame_tokens,
    llava_video_config,
    newlines_of,
    pooling_of,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LlavaVideo(LocalAnswerer[LlavaVideoReader]):
    """Answers from frames with ``lmms-lab/LLaVA-Video-*-Qwen2``, or a checkpoint like it.

    ``lmms-lab/llava-onevision-qwen2-*`` is one: the same files, and one newline token at the end of a video.
    """

    kind: ClassVar[str] = "llava_video"

    name: Label[str]
    checkpoint: Checkpoint
    pooling: Literal["checkpoint", "bilinear", "average"]
    """Of a frame's 27 x 27 patches: as its config says, to 14 x 14, or to 13 x 13 (lmms-eval's default)."""
    time_instruction: TimeInstruction
    """``official``: the paper's sentence, true of uniformly sampled frames alone; ``selected``: true of any."""
    prompt: AnswerPrompt
    max_new_tokens: int

    def __post_init__(self) -> None:
        _ = self._local  # settings that cannot be are known now

    def limits(self) -> AnswererLimits:
        """Read from ``config.json``."""
        return AnswererLimits(
            context_tokens=context_tokens(self._config),
            tokens_per_frame=frame_tokens(self._pooling, newlines_of(self._config, self.checkpoint.source))
            + self._form.text_tokens(),
            max_frames=None,
            time_told=self._form.time_told(),
        )

    def identity(self) -> Mapping[str, Any]:
        """The checkpoint's content and every other setting that decides the answers; the pooling as it is in effect.

        Raises:
            CheckpointError: the checkpoint is of another model; the error names it.
        """
        _ = self._config
        return {**super().identity(), "pooling": self._pooling}

    def check_subtitles(self) -> None:
        """See :class:`pipeline.answerers.ChecksSubtitles`."""
        self.prompt.check_in_one()

    def encode(self, request: AnswerRequest) -> Mapping[str, torch.Tensor]:
        """The very arguments of ``forward`` for this request alone. Loads the tokenizer and no weights."""
        from pipeline.models.llava_video_inputs import arguments

        inputs = super().encode(request)
        return arguments(inputs, len(inputs.input_ids))

    @property
    def _form(self) -> VideoForm:
        return VideoForm(TimeSentence(self.time_instruction))

    @cached_property
    def _config(self) -> Mapping[str, Any]:
        return llava_video_config(self.checkpoint)

    @property
    def _pooling(self) -> Pooling:
        if self.pooling == "checkpoint":
            return pooling_of(self._config, self.checkpoint.source)
        return self.pooling

    @cached_property
    def _local(self) -> LocalModel[LlavaVideoReader]:
        return LocalModel(
            lambda: LlavaVideoReader.open(self.checkpoint, self._config, self._pooling, self._form),
            self._load,
            self.prompt,
            self.max_new_tokens,
            self.checkpoint.source,
        )

    def _load(self) -> Any:
        from pipeline.models.llava_video import load_llava_video

        return load_llava_video(self.checkpoint, self._pooling, len(self._local.reader.tokenizer))
