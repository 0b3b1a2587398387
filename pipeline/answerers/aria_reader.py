"""Frames and words as inputs of one Aria checkpoint.

Source: the model card and ``processing_aria.py`` of github.com/rhymes-ai/Aria: images first, then a line break and the
question. The second before each image is ours; Aria itself is told of no times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.answerers.labels import FrameLabels
from pipeline.answerers.prompts import Words
from pipeline.domain import Frame
from pipeline.models.aria_native import AriaShape, open_tokenizer, prompt_tokens, shape
from pipeline.models.aria_pixels import Pixels, fitted, on_canvas
from pipeline.models.chat import IMAGE, render_chat, text
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.moving_parts import read_with_cache
from pipeline.models.yi_vl_config import CANVAS
from pipeline.models.yi_vl_tokenizer import ChunkTokenizer

if TYPE_CHECKING:
    import torch
    from transformers import Cache

_AROUND = 2  # fim_prefix and fim_suffix


@dataclass(frozen=True)
class AriaInputs:
    """One request, not padded."""

    input_ids: torch.Tensor
    """``[L]``; each image's token stands as often as the image has tokens."""
    pixels: list[Pixels]
    """The frames in the size that they have on the canvas."""


@dataclass(frozen=True)
class AriaReader:
    """See :class:`pipeline.answerers.local.Reader`."""

    tokenizer: ChunkTokenizer
    shape: AriaShape
    labels: FrameLabels

    @classmethod
    def open(cls, checkpoint: Checkpoint, labels: FrameLabels) -> AriaReader:
        """Read a checkpoint's tokenizer; no weights.

        Raises:
            CheckpointError: it is another model, or a file is missing.
        """
        found = shape(checkpoint)  # says what another model is, before its files are taken for Aria's
        return cls(open_tokenizer(resolve(checkpoint), found), found, labels)

    @property
    def context_tokens(self) -> int:
        """Of the config."""
        return self.shape.context_tokens

    @property
    def markup(self) -> tuple[str, ...]:
        """The tokenizer's control tokens, an image's placeholder among them."""
        return self.tokenizer.control_tokens

    @property
    def smaller(self) -> tuple[str, ...]:
        """A frame has always the same number of tokens."""
        return ()

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames are put on one canvas."""
        return f"images on {CANVAS} x {CANVAS} pixels; time: {self.labels.time_told()}"

    def tokens(self, frames: Sequence[Frame], words: Words) -> int:
        """See :class:`pipeline.answerers.local.Reader`."""
        return len(self._ids(frames, words))

    def pixels(self, frames: Sequence[Frame]) -> list[Pixels]:
        """See :class:`pipeline.answerers.local.Reader`."""
        return [fitted(frame.pixels) for frame in frames]

    def encode(self, pixels: list[Pixels], frames: Sequence[Frame], words: Words) -> AriaInputs:
        """See :class:`pipeline.answerers.local.Reader`."""
        import torch

        return AriaInputs(torch.tensor(self._ids(frames, words)), pixels)

    def language(self, model: Any) -> Any:
        """The whole model."""
        return model

    def frames_end(self, prompt: AriaInputs) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        from pipeline.inference.framed_prompts import last_of

        return last_of(prompt.input_ids, self.shape.image_token)

    def read(self, model: Any, prompt: AriaInputs, length: int, cache: Cache) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        ids = prompt.input_ids[None, :length].to(model.device)
        pixels, inside = on_canvas(prompt.pixels, like=model.model.vision_tower.embeddings.patch_embedding.weight)
        read_with_cache(model.model, cache, input_ids=ids, pixel_values=pixels, pixel_mask=inside)
        return length

    def _ids(self, frames: Sequence[Frame], words: Words) -> list[int]:
        shown = (
            (text(said + self.labels.before(frame.time)), IMAGE, text(self.labels.after))
            for said, frame in zip(words.before(frames), frames, strict=True)
        )
        content = [*(part for parts in shown for part in parts), text(f"\n{words.text}")]
        prompt = render_chat(self.tokenizer, content, words.system, words.begun)
        return prompt_tokens(self.tokenizer, self.shape, prompt, len(frames))


def frame_tokens(found: AriaShape, labels: FrameLabels) -> int:
    """At most so many tokens go with a frame, its label and the marks around it included."""
    return found.frame_tokens + labels.most_tokens() + _AROUND
