"""Frames and words as inputs of one LLaVA-Video checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.answerers.llava_video_forms import IMAGE, VideoForm
from pipeline.answerers.prompts import Words
from pipeline.domain import Frame
from pipeline.errors import CheckpointError
from pipeline.models.chat import load_tokenizer, special_tokens
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.llava_video_config import (
    IMAGE_SIZE,
    Newlines,
    Pooling,
    context_tokens,
    newlines_of,
    placeholder_id,
    video_tokens,
)
from pipeline.models.moving_parts import read_with_cache
from pipeline.models.remedies import restore

if TYPE_CHECKING:
    import torch
    from transformers import Cache

    from pipeline.models.llava_video_inputs import LlavaVideoInputs


@dataclass(frozen=True)
class LlavaVideoReader:
    """See :class:`pipeline.answerers.local.Reader`."""

    tokenizer: Any
    context_tokens: int
    placeholder: int
    """The token id that stands for a place of the video."""
    pooling: Pooling
    newlines: Newlines
    form: VideoForm

    @classmethod
    def open(
        cls, checkpoint: Checkpoint, config: Mapping[str, Any], pooling: Pooling, form: VideoForm
    ) -> LlavaVideoReader:
        """Read a checkpoint's tokenizer; no weights.

        Raises:
            CheckpointError: a file is missing, or the tokenizer leaves no row of the vocabulary for the video.
        """
        folder = resolve(checkpoint)
        tokenizer, placeholder = load_tokenizer(folder), placeholder_id(config)
        if len(tokenizer) > placeholder or tokenizer.convert_ids_to_tokens(placeholder) is not None:
            raise CheckpointError(
                f"The tokenizer in {folder} has {len(tokenizer)} tokens, and the vocabulary {placeholder + 1} rows: "
                "none is free to stand for the video.",
                restore("the tokenizer files of the checkpoint"),
            )
        newlines = newlines_of(config, checkpoint.source)
        return cls(tokenizer, context_tokens(config), placeholder, pooling, newlines, form)

    @property
    def markup(self) -> tuple[str, ...]:
        """The authors' mark for the video, and the tokenizer's control tokens."""
        return (IMAGE, *special_tokens(self.tokenizer))

    @property
    def smaller(self) -> tuple[str, ...]:
        """Average pooling leaves 13 rows of 14."""
        return ("answerer.pooling=average",) if self.pooling == "bilinear" else ()

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames have the vision tower's size."""
        return f"video of {IMAGE_SIZE} x {IMAGE_SIZE} pixels, {self.pooling} pooling; time: {self.form.time_told()}"

    def tokens(self, frames: Sequence[Frame], words: Words) -> int:
        """See :class:`pipeline.answerers.local.Reader`."""
        return len(self._ids(frames, words))

    def pixels(self, frames: Sequence[Frame]) -> torch.Tensor:
        """See :class:`pipeline.answerers.local.Reader`."""
        from pipeline.models.llava_video_inputs import frame_pixels

        return frame_pixels([frame.pixels for frame in frames])

    def encode(self, pixels: torch.Tensor, frames: Sequence[Frame], words: Words) -> LlavaVideoInputs:
        """See :class:`pipeline.answerers.local.Reader`."""
        import torch

        from pipeline.models.llava_video_inputs import LlavaVideoInputs

        return LlavaVideoInputs(torch.tensor(self._ids(frames, words)), pixels)

    def language(self, model: Any) -> Any:
        """The whole model."""
        return model

    def frames_end(self, prompt: LlavaVideoInputs) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        from pipeline.inference.framed_prompts import last_of

        return last_of(prompt.input_ids, self.placeholder)

    def read(self, model: Any, prompt: LlavaVideoInputs, length: int, cache: Cache) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        from pipeline.models.llava_video_inputs import arguments

        given = {name: tensor.to(model.device) for name, tensor in arguments(prompt, length).items()}
        read_with_cache(model.model, cache, **given)
        return length

    def _ids(self, frames: Sequence[Frame], words: Words) -> list[int]:
        from pipeline.models.llava_video_inputs import prompt_ids

        repeats = video_tokens(self.pooling, self.newlines, len(frames))
        before, after = self.form.before(words), self.form.after(frames, words)
        return prompt_ids(self.tokenizer, before, after, self.placeholder, repeats)
