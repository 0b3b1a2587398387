"""Frames and words as inputs of one Qwen2-VL or Qwen2.5-VL checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.answerers.prompts import Words
from pipeline.answerers.qwen_forms import QwenForm
from pipeline.domain import Frame
from pipeline.models.chat import load_tokenizer, render_chat, special_tokens
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.moving_parts import read_with_cache
from pipeline.models.qwen_family import check_placeholders, context_tokens, family
from pipeline.models.qwen_pixels import FrameScale, Patches, image_patches, load_image_processor

if TYPE_CHECKING:
    from transformers import Cache

    from pipeline.models.qwen_inputs import QwenInputs


@dataclass(frozen=True)
class QwenReader:
    """See :class:`pipeline.answerers.local.Reader`."""

    tokenizer: Any
    processor: Any
    family: str
    context_tokens: int
    scale: FrameScale
    form: QwenForm
    system: str | None
    """The system turn; none leaves it to the checkpoint's chat template."""

    @classmethod
    def open(cls, checkpoint: Checkpoint, scale: FrameScale, form: QwenForm, system: str | None) -> QwenReader:
        """Read a checkpoint's tokenizer and image settings; no weights.

        Raises:
            CheckpointError: it is another model, or a file is missing or does not go with the others.
        """
        found = family(checkpoint)  # says what another model is, before its files are taken for a Qwen's
        folder, context = resolve(checkpoint), context_tokens(checkpoint)
        tokenizer = load_tokenizer(folder)
        check_placeholders(checkpoint, tokenizer)
        return cls(tokenizer, load_image_processor(folder), found, context, scale, form, system)

    @property
    def markup(self) -> tuple[str, ...]:
        """The tokenizer's control tokens, pictures' placeholders among them."""
        return special_tokens(self.tokenizer)

    @property
    def smaller(self) -> tuple[str, ...]:
        """Half the pixels, or half of each side of a fixed size, where that is allowed."""
        unit = self.scale.unit
        if self.scale.fixed is not None:
            rows, columns = (max(unit, side // 2 // unit * unit) for side in self.scale.fixed)
            return (f"answerer.frame_size=[{rows},{columns}]",) if (rows, columns) != self.scale.fixed else ()
        pixels = max(self.scale.min_pixels, self.scale.max_pixels // 2)
        return (f"answerer.max_pixels={pixels}",) if pixels < self.scale.max_pixels else ()

    def describe(self, frames: Sequence[Frame]) -> str:
        """With the size of the first frame as the model sees it."""
        size = ""
        if frames:
            height, width = self.scale.size(*frames[0].pixels.shape[:2])
            size = f" of {height} x {width} pixels"
        return f"{self.form.kind}{size}; time: {self.form.time_told(self.family)}"

    def tokens(self, frames: Sequence[Frame], words: Words) -> int:
        """See :class:`pipeline.answerers.local.Reader`."""
        from pipeline.models.prompt_ids import expanded

        counts = self.form.counts(self.scale, frames)
        return len(expanded(self.tokenizer, self._rendered(frames, words), {self.form.placeholder: counts}))

    def pixels(self, frames: Sequence[Frame]) -> Patches:
        """See :class:`pipeline.answerers.local.Reader`."""
        self.form.counts(self.scale, frames)  # says so where they cannot be put in this form
        images = image_patches(self.processor, [frame.pixels for frame in frames], self.scale)
        return self.form.pixels(images, [frame.time for frame in frames])

    def encode(self, pixels: Patches, frames: Sequence[Frame], words: Words) -> QwenInputs:
        """See :class:`pipeline.answerers.local.Reader`."""
        times = [frame.time for frame in frames]
        return self.form.inputs(self.tokenizer, self._rendered(frames, words), pixels, times)

    def language(self, model: Any) -> Any:
        """The whole model."""
        return model

    def frames_end(self, prompt: QwenInputs) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        return int(prompt.mm_token_type_ids.nonzero()[-1]) + 1

    def read(self, model: Any, prompt: QwenInputs, length: int, cache: Cache) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        from pipeline.models.qwen_inputs import arguments
        from pipeline.models.qwen_positions import true_times

        with true_times(model, [prompt.grid_times]) if prompt.grid_times else nullcontext():
            given = {name: tensor.to(model.device) for name, tensor in arguments(prompt, length).items()}
            read_with_cache(model.model, cache, **given)
        return length + int(model.model.rope_deltas)

    def _rendered(self, frames: Sequence[Frame], words: Words) -> str:
        content = self.form.content(frames, words)
        return render_chat(self.tokenizer, content, words.system_or(self.system), words.begun)
