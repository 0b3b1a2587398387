"""Frames and words as the arguments that LLaVA-OneVision's ``forward`` takes.

Written out instead of taken from ``LlavaOnevisionProcessor``, which needs torchvision. Tokens and pixels are the same;
where they are not, :mod:`pipeline.answerers.llava_onevision_forms` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.answerers.llava_onevision_forms import LlavaForm, Tower
from pipeline.answerers.local import Asked
from pipeline.domain import Frame
from pipeline.errors import CheckpointError
from pipeline.models.chat import load_tokenizer, render_chat, special_tokens
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.remedies import restore

if TYPE_CHECKING:
    import torch

    from pipeline.answerers.llava_onevision_forms import Pixels
    from pipeline.inference.greedy import Generated


@dataclass(frozen=True)
class LlavaInputs:
    """One request, not padded."""

    input_ids: torch.Tensor
    """``[L]``; each picture's placeholder stands as often as the picture has tokens."""
    pixels: Pixels
    """``[frames, 3, image_size, image_size]``."""
    sizes: list[tuple[int, int]]
    """Height and width of the frames as decoded."""


@dataclass(frozen=True)
class LlavaReader:
    """See :class:`pipeline.answerers.local.Reader`."""

    tokenizer: Any
    processor: Any
    """``LlavaOnevisionImageProcessorPil``: Pillow gives the pixels that the authors' code gives."""
    tower: Tower
    context_tokens: int
    form: LlavaForm

    @classmethod
    def open(cls, checkpoint: Checkpoint, tower: Tower, context_tokens: int, form: LlavaForm) -> LlavaReader:
        """Read a checkpoint's tokenizer and image settings; no weights.

        Raises:
            CheckpointError: a file is missing, or its settings are not those of the model.
        """
        from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
            LlavaOnevisionImageProcessorPil,
        )

        folder, remedy = resolve(checkpoint), restore("the files of the checkpoint")
        try:
            processor = LlavaOnevisionImageProcessorPil.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{folder} has no readable image settings: {error}", remedy) from error
        size = dict(processor.size)
        if (size.get("height"), size.get("width")) != (tower.image_size, tower.image_size):
            raise CheckpointError(
                f"{folder} scales images to {size}, and its vision tower takes {tower.image_size} x "
                f"{tower.image_size}.",
                remedy,
            )
        tokenizer = load_tokenizer(folder)
        if None in tokenizer.convert_ids_to_tokens([tower.image_token_id, tower.video_token_id]):
            raise CheckpointError(f"The tokenizer in {folder} lacks the token that stands for a picture.", remedy)
        return cls(tokenizer, processor, tower, context_tokens, form)

    @property
    def markup(self) -> tuple[str, ...]:
        """The placeholders of pictures, and the tokenizer's control tokens."""
        pictures = [self.tower.image_token_id, self.tower.video_token_id]
        return (*self.tokenizer.convert_ids_to_tokens(pictures), *special_tokens(self.tokenizer))

    @property
    def smaller(self) -> tuple[str, ...]:
        """A frame of a video takes a quarter of an image's tokens."""
        return ("answerer.form=video",) if self.form.kind == "images" else ()

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames have the vision tower's size."""
        side = self.tower.image_size
        return f"{self.form.kind} of {side} x {side} pixels; time: {self.form.time_told()}"

    def tokens(self, frames: Sequence[Frame], words: str) -> int:
        """See :class:`pipeline.answerers.local.Reader`."""
        return len(self._ids(frames, words))

    def alike(self, frames: Sequence[Frame]) -> int:
        """As the form has it."""
        return self.form.alike(len(frames))

    def encode(self, frames: Sequence[Frame], words: str) -> LlavaInputs:
        """One request's inputs.

        Raises:
            CheckpointError: the chat template leaves out a picture.
        """
        import torch

        sizes = [(frame.pixels.shape[0], frame.pixels.shape[1]) for frame in frames]
        return LlavaInputs(torch.tensor(self._ids(frames, words)), self.form.pixels(self.processor, frames), sizes)

    def collate(self, requests: Sequence[LlavaInputs], pad: int) -> Mapping[str, torch.Tensor]:
        """The arguments of ``forward`` for requests that are :meth:`alike`, padded on the left.

        Args:
            requests: at least one.
            pad: the padding token's id.
        """
        import torch

        from pipeline.models.prompt_ids import left_padded

        pictures = self.form.model_inputs(
            [request.pixels for request in requests], [size for request in requests for size in request.sizes]
        )
        return {
            "input_ids": left_padded([request.input_ids for request in requests], pad),
            "attention_mask": left_padded([torch.ones_like(request.input_ids) for request in requests], 0),
            **pictures,
        }

    def generate(self, model: Any, batch: Sequence[Asked], max_new_tokens: int) -> list[Generated]:
        """See :class:`pipeline.answerers.local.Reader`."""
        from pipeline.inference.greedy import generate_greedily, pad_token

        encoded = [self.encode(asked.frames, asked.words) for asked in batch]
        inputs = self.collate(encoded, pad_token(model, self.tokenizer))
        return generate_greedily(model, self.tokenizer, inputs, max_new_tokens)

    def _ids(self, frames: Sequence[Frame], words: str) -> list[int]:
        from pipeline.models.prompt_ids import expanded

        placeholder = str(self.tokenizer.convert_ids_to_tokens(self.form.placeholder_id(self.tower)))
        prompt = render_chat(self.tokenizer, self.form.content(placeholder, frames, words))
        return expanded(self.tokenizer, prompt, {placeholder: self.form.counts(self.tower, len(frames))})
