"""Frames and words as inputs of one LLaVA-OneVision checkpoint, in one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.answerers.llava_onevision_forms import LlavaForm
from pipeline.answerers.prompts import Words
from pipeline.domain import Frame
from pipeline.models.chat import render_chat
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.llava_onevision_family import Tower, context_tokens, tower_of
from pipeline.models.llava_onevision_pixels import load_image_processor

if TYPE_CHECKING:
    import torch

    from pipeline.inference.greedy import Generated
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

    def alike(self, frames: Sequence[Frame]) -> int:
        """As the form has it."""
        return self.form.alike(len(frames))

    def encode(self, frames: Sequence[Frame], words: Words) -> LlavaInputs:
        """One request's inputs.

        Raises:
            CheckpointError: the chat template leaves out a picture.
        """
        import torch

        from pipeline.models.llava_onevision_inputs import LlavaInputs

        sizes = [(frame.pixels.shape[0], frame.pixels.shape[1]) for frame in frames]
        return LlavaInputs(torch.tensor(self._ids(frames, words)), self.form.pixels(self.processor, frames), sizes)

    def collate(self, requests: Sequence[LlavaInputs], pad: int) -> Mapping[str, torch.Tensor]:
        """The arguments of ``forward`` for requests that are :meth:`alike`, padded on the left.

        Args:
            requests: at least one.
            pad: the padding token's id.
        """
        from pipeline.models.llava_onevision_inputs import padded

        pictures = self.form.model_inputs(
            [request.pixels for request in requests], [size for request in requests for size in request.sizes]
        )
        return {**padded(requests, pad), **pictures}

    def generate(self, model: Any, batch: Sequence[LlavaInputs], max_new_tokens: int) -> list[Generated]:
        """See :class:`pipeline.answerers.local.Reader`."""
        from pipeline.inference.greedy import generate_greedily, pad_token

        inputs = self.collate(batch, pad_token(model, self.tokenizer))
        return generate_greedily(model, self.tokenizer, inputs, max_new_tokens)

    def _ids(self, frames: Sequence[Frame], words: Words) -> list[int]:
        from pipeline.models.prompt_ids import expanded

        placeholder = str(self.tokenizer.convert_ids_to_tokens(self.form.placeholder_id(self.tower)))
        prompt = render_chat(self.tokenizer, self.form.content(placeholder, frames, words), words.system, words.begun)
        return expanded(self.tokenizer, prompt, {placeholder: self.form.counts(self.tower, len(frames))})
