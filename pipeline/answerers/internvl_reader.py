"""Frames and words as inputs of one InternVL3 checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.answerers.internvl_forms import FrameLines
from pipeline.answerers.prompts import Words
from pipeline.domain import Frame
from pipeline.models.chat import load_tokenizer, render_chat, special_tokens, text
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.internvl_family import (
    IMAGE_CONTEXT,
    IMAGE_END,
    IMAGE_START,
    InternVLShape,
    frame_pixels,
    load_image_processor,
    shape,
)
from pipeline.models.moving_parts import read_with_cache

if TYPE_CHECKING:
    import torch
    from transformers import Cache

AROUND = 2
"""Tokens around an image: its start and its end."""


@dataclass(frozen=True)
class InternVLInputs:
    """One request, not padded."""

    input_ids: torch.Tensor
    """``[L]``; each image's token stands as often as the image has tokens."""
    pixels: torch.Tensor
    """``[frames, 3, side, side]``."""


@dataclass(frozen=True)
class InternVLReader:
    """See :class:`pipeline.answerers.local.Reader`."""

    tokenizer: Any
    processor: Any
    shape: InternVLShape
    lines: FrameLines
    system: str | None
    """The system turn; none leaves it to the checkpoint's chat template."""

    @classmethod
    def open(cls, checkpoint: Checkpoint, lines: FrameLines, system: str | None) -> InternVLReader:
        """Read a checkpoint's tokenizer and image settings; no weights.

        Raises:
            CheckpointError: it is another model, or a file is missing.
        """
        found = shape(checkpoint)  # says what another model is, before its files are taken for InternVL's
        folder = resolve(checkpoint)
        return cls(load_tokenizer(folder), load_image_processor(folder, found), found, lines, system)

    @property
    def context_tokens(self) -> int:
        """Of the config."""
        return self.shape.context_tokens

    @property
    def markup(self) -> tuple[str, ...]:
        """The tokenizer's control tokens, and the marks of an image."""
        return tuple(sorted({*special_tokens(self.tokenizer), IMAGE_START, IMAGE_CONTEXT, IMAGE_END}))

    @property
    def smaller(self) -> tuple[str, ...]:
        """A frame has always the same number of tokens."""
        return ()

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames have the vision tower's size."""
        return f"images of {self.shape.side} x {self.shape.side} pixels; time: {self.lines.time_told()}"

    def tokens(self, frames: Sequence[Frame], words: Words) -> int:
        """See :class:`pipeline.answerers.local.Reader`."""
        return len(self._ids(frames, words))

    def pixels(self, frames: Sequence[Frame]) -> torch.Tensor:
        """See :class:`pipeline.answerers.local.Reader`."""
        return frame_pixels(self.processor, [frame.pixels for frame in frames])

    def encode(self, pixels: torch.Tensor, frames: Sequence[Frame], words: Words) -> InternVLInputs:
        """See :class:`pipeline.answerers.local.Reader`."""
        import torch

        return InternVLInputs(torch.tensor(self._ids(frames, words)), pixels)

    def language(self, model: Any) -> Any:
        """The whole model."""
        return model

    def frames_end(self, prompt: InternVLInputs) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        from pipeline.inference.framed_prompts import last_of

        return last_of(prompt.input_ids, self.tokenizer.convert_tokens_to_ids(IMAGE_CONTEXT))

    def read(self, model: Any, prompt: InternVLInputs, length: int, cache: Cache) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        ids = prompt.input_ids[None, :length].to(model.device)
        pixels = prompt.pixels.to(model.device, model.dtype)
        read_with_cache(model.model, cache, input_ids=ids, pixel_values=pixels)
        return length

    def _ids(self, frames: Sequence[Frame], words: Words) -> list[int]:
        from pipeline.models.prompt_ids import expanded

        image = f"{IMAGE_START}{IMAGE_CONTEXT}{IMAGE_END}{self.lines.after}"
        shown = (
            f"{said}{self.lines.before(number, frame.time)}{image}"
            for number, (said, frame) in enumerate(zip(words.before(frames), frames, strict=True), start=1)
        )
        content = [text("".join(shown) + words.text)]
        prompt = render_chat(self.tokenizer, content, words.system_or(self.system), words.begun)
        return expanded(self.tokenizer, prompt, {IMAGE_CONTEXT: [self.shape.frame_tokens] * len(frames)})
