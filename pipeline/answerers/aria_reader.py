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
from pipeline.models.yi_vl_config import CANVAS
from pipeline.models.yi_vl_tokenizer import ChunkTokenizer

if TYPE_CHECKING:
    import torch

    from pipeline.inference.greedy import Generated

_AROUND = 2  # fim_prefix and fim_suffix


@dataclass(frozen=True)
class AriaInputs:
    """One request, not padded."""

    input_ids: torch.Tensor
    """``[L]``; each image's token stands as often as the image has tokens."""
    frames: list[Pixels]
    """In the size that they have on the canvas."""


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

    def alike(self, frames: Sequence[Frame]) -> bool:
        """Any numbers and sizes of frames go together."""
        return True

    def encode(self, frames: Sequence[Frame], words: Words) -> AriaInputs:
        """One request's inputs, not padded."""
        import torch

        return AriaInputs(torch.tensor(self._ids(frames, words)), [fitted(frame.pixels) for frame in frames])

    def collate(self, requests: Sequence[AriaInputs], pad: int, like: torch.Tensor) -> dict[str, torch.Tensor]:
        """A batch, padded on the left, as the model class and ``generate`` take it.

        Args:
            requests: at least one.
            pad: the padding token's id.
            like: whose device and number format the pixels get.
        """
        import torch

        from pipeline.models.prompt_ids import left_padded

        shown = [on_canvas(request.frames, like) for request in requests]
        return {
            "input_ids": left_padded([request.input_ids for request in requests], pad),
            "attention_mask": left_padded([torch.ones_like(request.input_ids) for request in requests], 0),
            "pixel_values": torch.cat([pixels for pixels, _ in shown]),
            "pixel_mask": torch.cat([inside for _, inside in shown]),
        }

    def generate(self, model: Any, batch: Sequence[AriaInputs], max_new_tokens: int) -> list[Generated]:
        """See :class:`pipeline.answerers.local.Reader`."""
        from pipeline.inference.greedy import generate_greedily, pad_token

        patches = model.model.vision_tower.embeddings.patch_embedding.weight
        inputs = self.collate(batch, pad_token(model, self.tokenizer), like=patches)
        return generate_greedily(model, self.tokenizer, inputs, max_new_tokens)

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
