"""Frames and words as inputs of one LLaVA-OneVision checkpoint, in one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.answerers.llava_onevision_forms import LlavaForm
from pipeline.answerers.prompts import Words
from pipeline.domain import Frame
from pipeline.models.chat import render_chat
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.llava_onevision_family import Tower, context_tokens, tower_of
from pipeline.models.llava_onevision_pixels import Pixels, load_image_processor
from pipeline.models.moving_parts import read_with_cache

if TYPE_CHECKING:
    import torch
    from transformers import Cache

    from pipeline.models.llava_onevision_inputs import LlavaInputs


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
    def open(cls, checkpoint: Checkpoint, form: LlavaForm) -> LlavaReader:
        """Read a checkpoint's tokenizer and image settings; no weights.

        Raises:
            CheckpointError: it is another model, a file is missing, or its settings are not those of the model.
        """
        from pipeline.models.llava_onevision_inputs import open_tokenizer

        shape = tower_of(checkpoint)  # says what another model is, before its files are taken for a LLaVA's
        folder, context = resolve(checkpoint), context_tokens(checkpoint)
        processor = load_image_processor(folder, shape)
        return cls(open_tokenizer(folder, shape), processor, shape, context, form)

    @property
    def markup(self) -> tuple[str, ...]:
        """The placeholders of pictures, and the tokenizer's control tokens."""
        from pipeline.models.llava_onevision_inputs import markup

        return markup(self.tokenizer, self.tower)

    @property
    def smaller(self) -> tuple[str, ...]:
        """A frame of a video takes a quarter of an image's tokens."""
        return ("answerer.form=video",) if self.form.kind == "images" else ()

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames have the vision tower's size."""
        side = self.tower.image_size
        return f"{self.form.kind} of {side} x {side} pixels; time: {self.form.time_told()}"

    def tokens(self, frames: Sequence[Frame], words: Words) -> int:
        """See :class:`pipeline.answerers.local.Reader`."""
        return len(self._ids(frames, words))

    def pixels(self, frames: Sequence[Frame]) -> Pixels:
        """See :class:`pipeline.answerers.local.Reader`."""
        return self.form.pixels(self.processor, frames)

    def encode(self, pixels: Pixels, frames: Sequence[Frame], words: Words) -> LlavaInputs:
        """See :class:`pipeline.answerers.local.Reader`.

        Raises:
            CheckpointError: the chat template leaves out a picture.
        """
        import torch

        from pipeline.models.llava_onevision_inputs import LlavaInputs

        sizes = [(frame.pixels.shape[0], frame.pixels.shape[1]) for frame in frames]
        return LlavaInputs(torch.tensor(self._ids(frames, words)), pixels, sizes)

    def language(self, model: Any) -> Any:
        """The whole model."""
        return model

    def frames_end(self, prompt: LlavaInputs) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        from pipeline.inference.framed_prompts import last_of

        return last_of(prompt.input_ids, self.form.placeholder_id(self.tower))

    def read(self, model: Any, prompt: LlavaInputs, length: int, cache: Cache) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        given = {name: tensor.to(model.device) for name, tensor in self.arguments(prompt, length).items()}
        read_with_cache(model.model, cache, **given)
        return length

    def arguments(self, prompt: LlavaInputs, length: int) -> dict[str, torch.Tensor]:
        """The arguments of ``forward`` for the first ``length`` tokens, with all pictures."""
        return {"input_ids": prompt.input_ids[None, :length], **self.form.model_inputs(prompt.pixels, prompt.sizes)}

    def _ids(self, frames: Sequence[Frame], words: Words) -> list[int]:
        from pipeline.models.prompt_ids import expanded

        placeholder = str(self.tokenizer.convert_ids_to_tokens(self.form.placeholder_id(self.tower)))
        prompt = render_chat(self.tokenizer, self.form.content(placeholder, frames, words), words.system, words.begun)
        return expanded(self.tokenizer, prompt, {placeholder: self.form.counts(self.tower, len(frames))})
