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
from pipeline.models.remedies import restore

if TYPE_CHECKING:
    from pipeline.inference.greedy import Generated
    from pipeline.models.llava_video_inputs import LlavaVideoInputs


@dataclass(frozen=True)
class LlavaVideoReader:
    """See :class:`pipeline.answerers.local.Reader`. Frames are those of ``frames_of_video``."""

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

    def alike(self, frames: Sequence[Frame]) -> int:
        """Equal numbers of frames: their prompts are of nearly equal length, so that little is padded."""
        return len(frames)

    def encode(self, frames: Sequence[Frame], words: Words) -> LlavaVideoInputs:
        """One request's inputs, not padded."""
        import torch

        from pipeline.models.llava_video_inputs import LlavaVideoInputs, frame_pixels

        return LlavaVideoInputs(torch.tensor(self._ids(frames, words)), frame_pixels([f.pixels for f in frames]))

    def generate(self, model: Any, batch: Sequence[LlavaVideoInputs], max_new_tokens: int) -> list[Generated]:
        """See :class:`pipeline.answerers.local.Reader`."""
        from pipeline.inference.greedy import generate_greedily, pad_token
        from pipeline.models.llava_video_inputs import collate

        inputs = collate(batch, pad_token(model, self.tokenizer))
        return generate_greedily(model, self.tokenizer, inputs, max_new_tokens)

    def _ids(self, frames: Sequence[Frame], words: Words) -> list[int]:
        from pipeline.models.llava_video_inputs import prompt_ids

        repeats = video_tokens(self.pooling, self.newlines, len(frames))
        before, after = self.form.before(words), self.form.after(frames, words)
        return prompt_ids(self.tokenizer, before, after, self.placeholder, repeats)
