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

if TYPE_CHECKING:
    import torch

    from pipeline.inference.greedy import Generated

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

    def alike(self, frames: Sequence[Frame]) -> bool:
        """Any numbers and sizes of frames go together."""
        return True

    def encode(self, frames: Sequence[Frame], words: Words) -> InternVLInputs:
        """One request's inputs, not padded."""
        import torch

        pixels = frame_pixels(self.processor, [frame.pixels for frame in frames])
        return InternVLInputs(torch.tensor(self._ids(frames, words)), pixels)

    def generate(self, model: Any, batch: Sequence[InternVLInputs], max_new_tokens: int) -> list[Generated]:
        """See :class:`pipeline.answerers.local.Reader`."""
        import torch

        from pipeline.inference.greedy import generate_greedily, pad_token
        from pipeline.models.prompt_ids import left_padded

        pad = pad_token(model, self.tokenizer)
        inputs = {
            "input_ids": left_padded([one.input_ids for one in batch], pad),
            "attention_mask": left_padded([torch.ones_like(one.input_ids) for one in batch], 0),
            "pixel_values": torch.cat([one.pixels for one in batch]),
        }
        return generate_greedily(model, self.tokenizer, inputs, max_new_tokens)

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
