"""One request, or a batch of them, as the arguments that LLaVA-OneVision's ``forward`` takes.

Written out instead of taken from ``LlavaOnevisionProcessor``, which needs torchvision. Tokens and pixels are the same;
where they are not, :mod:`pipeline.answerers.llava_onevision_frames` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.answerers.llava_onevision_frames import FrameForm, Tower
from pipeline.domain import Frame
from pipeline.errors import CheckpointError
from pipeline.models.chat import load_tokenizer, render_chat, special_tokens

if TYPE_CHECKING:
    import torch

    from pipeline.answerers.llava_onevision_frames import Pixels


@dataclass(frozen=True)
class Prepared:
    """One request in tokens and pixels."""

    ids: list[int]
    """The whole prompt, placeholders repeated."""
    pixels: Pixels
    """``[frames, 3, image_size, image_size]``."""
    sizes: list[tuple[int, int]]
    """Height and width of the frames as decoded."""


@dataclass(frozen=True)
class LlavaInputs:
    """Turns frames and words into model inputs, as one checkpoint wants them."""

    tokenizer: Any
    processor: Any
    """``LlavaOnevisionImageProcessorPil``: Pillow gives the pixels that the authors' code gives."""
    tower: Tower
    form: FrameForm

    @classmethod
    def load(cls, folder: Path, tower: Tower, form: FrameForm) -> LlavaInputs:
        """Read tokenizer and image settings from a checkpoint's folder; no weights.

        Raises:
            CheckpointError: a file is missing, or its settings are not those of the model.
        """
        from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
            LlavaOnevisionImageProcessorPil,
        )

        remedy = "restore the files of the checkpoint, or name another: answerer.checkpoint.source=..."
        try:
            processor = LlavaOnevisionImageProcessorPil.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{folder} has no readable image settings: {error}", remedy) from error
        size = dict(processor.size)
        if (size.get("height"), size.get("width")) != (tower.image_size, tower.image_size):
            raise CheckpointError(
                f"{folder} scales images to {size}, and its vision tower takes {tower.image_size} x {tower.image_size}",
                remedy,
            )
        tokenizer = load_tokenizer(folder)
        if None in tokenizer.convert_ids_to_tokens([tower.image_token_id, tower.video_token_id]):
            raise CheckpointError(f"the tokenizer in {folder} lacks the token that stands for a picture", remedy)
        return cls(tokenizer, processor, tower, form)

    @property
    def placeholder(self) -> str:
        """The text that stands for a picture in a prompt."""
        return str(self.tokenizer.convert_ids_to_tokens(self.form.placeholder_id(self.tower)))

    @property
    def markup(self) -> tuple[str, ...]:
        """Strings that must not stand in a question."""
        pictures = [self.tower.image_token_id, self.tower.video_token_id]
        return (*self.tokenizer.convert_ids_to_tokens(pictures), *special_tokens(self.tokenizer))

    def prompt_ids(self, frames: Sequence[Frame], words: str) -> list[int]:
        """The prompt's tokens, each placeholder repeated as often as its picture has tokens.

        Raises:
            CheckpointError: the chat template leaves out or repeats a picture.
        """
        prompt = render_chat(self.tokenizer, self.form.content(self.placeholder, frames, words))
        short = self.tokenizer(prompt)["input_ids"]
        picture, counts = self.form.placeholder_id(self.tower), self.form.counts(self.tower, len(frames))
        if short.count(picture) != len(counts):
            raise CheckpointError(
                f"the chat template gives {short.count(picture)} placeholders for {len(counts)} pictures",
                "take a checkpoint with the chat template of its family: answerer.checkpoint.source=...",
            )
        times = iter(counts)
        return [token for word in short for token in ([word] * next(times) if word == picture else [word])]

    def prepare(self, frames: Sequence[Frame], words: str) -> Prepared:
        """One request's tokens and pixels."""
        sizes = [(frame.pixels.shape[0], frame.pixels.shape[1]) for frame in frames]
        return Prepared(self.prompt_ids(frames, words), self.form.pixels(self.processor, frames), sizes)

    def batch(self, requests: Sequence[Prepared]) -> Mapping[str, torch.Tensor]:
        """The arguments of ``forward`` for requests whose frame counts are :meth:`FrameForm.alike`.

        ``input_ids`` and ``attention_mask`` are ``[requests, longest prompt]``, padded on the left.
        """
        import torch

        longest = max(len(request.ids) for request in requests)
        pad = self.tokenizer.pad_token_id
        missing = [longest - len(request.ids) for request in requests]
        ids = [[pad] * n + request.ids for n, request in zip(missing, requests, strict=True)]
        mask = [[0] * n + [1] * (longest - n) for n in missing]
        pictures = self.form.model_inputs(
            [request.pixels for request in requests], [size for request in requests for size in request.sizes]
        )
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), **pictures}
