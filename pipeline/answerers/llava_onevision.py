"""LLaVA-OneVision (Li et al. 2024, arXiv 2408.03326) in the form that transformers loads by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.answerers import AnswererLimits, AnswerRequest
from pipeline.answerers.labels import FrameLabels
from pipeline.answerers.llava_onevision_forms import ImagesForm, LlavaForm, VideoForm
from pipeline.answerers.llava_onevision_reader import LlavaReader
from pipeline.answerers.local import LocalAnswerer, LocalModel
from pipeline.answerers.prompts import AnswerPrompt
from pipeline.answerers.time_instruction import TimeSentence
from pipeline.identity import Label
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.llava_onevision_family import (
    Tower,
    context_tokens,
    load_llava_onevision,
    tower_of,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LlavaOnevision(LocalAnswerer[LlavaReader]):
    """Answers from frames with a ``llava-hf/llava-onevision-qwen2-*-ov-hf`` checkpoint, or one like it."""

    kind: ClassVar[str] = "llava_onevision"

    name: Label[str]
    checkpoint: Checkpoint
    form: Literal["images", "video"]
    """``images``: each frame with its second before it; ``video``: a quarter of the tokens, and a sentence with all."""
    images: FrameLabels
    """Used by the form of that name."""
    time_instruction: Literal["selected", "none"]
    """Used by the form ``video``: LLaVA-Video's sentence as far as it is true of any frames, or no times at all."""
    prompt: AnswerPrompt
    max_new_tokens: int

    def __post_init__(self) -> None:
        _ = self._local  # settings that cannot be are known now

    def limits(self) -> AnswererLimits:
        """Read from ``config.json``."""
        form, tower = self._form, self._tower
        return AnswererLimits(
            context_tokens=context_tokens(self.checkpoint),
            tokens_per_frame=sum(form.counts(tower, 2)) - sum(form.counts(tower, 1)) + form.text_tokens(),
            max_frames=None,
            time_told=form.time_told(),
        )

    def identity(self) -> Mapping[str, Any]:
        """The checkpoint's content and every other setting that decides the answers.

        Raises:
            CheckpointError: the checkpoint is of another model; the error names it.
        """
        _ = self._tower
        return super().identity()

    def check_subtitles(self) -> None:
        """See :class:`pipeline.answerers.ChecksSubtitles`."""
        if self.form == "video":
            self.prompt.check_in_one()

    def encode(self, request: AnswerRequest) -> Mapping[str, torch.Tensor]:
        """The very arguments of ``forward`` for this request alone. Loads the tokenizer and no weights."""
        inputs = super().encode(request)
        return self._local.reader.arguments(inputs, len(inputs.input_ids))

    @property
    def _form(self) -> LlavaForm:
        return ImagesForm(self.images) if self.form == "images" else VideoForm(TimeSentence(self.time_instruction))

    @cached_property
    def _tower(self) -> Tower:
        return tower_of(self.checkpoint)

    @cached_property
    def _local(self) -> LocalModel[LlavaReader]:
        return LocalModel(
            lambda: LlavaReader.open(self.checkpoint, self._form),
            lambda: load_llava_onevision(self.checkpoint),
            self.prompt,
            self.max_new_tokens,
            self.checkpoint.source,
        )
