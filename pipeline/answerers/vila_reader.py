"""Frames and words as inputs of one VILA-1.5 checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.answerers.labels import ORDER_ALONE, FrameLabels
from pipeline.answerers.prompts import Words
from pipeline.domain import Frame
from pipeline.errors import ConfigError
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.moving_parts import read_with_cache
from pipeline.models.vila_config import VilaConfig
from pipeline.models.vila_conversations import ConversationName
from pipeline.models.vila_pixels import VilaPixels
from pipeline.models.vila_tokenizer import IMAGE, VilaTokens

if TYPE_CHECKING:
    import torch
    from transformers import Cache


@dataclass(frozen=True)
class VilaForm:
    """How frames and their times are put to the model."""

    kind: str
    """Its name in the settings."""
    labels: FrameLabels

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        return self.labels.time_told() if self.kind == "images" else ORDER_ALONE

    def text_tokens(self) -> int:
        """At most so many tokens go with a frame beside those of its pixels; one for the word's beginning."""
        return self.labels.most_tokens() + 1

    def turn(self, frames: Sequence[Frame], words: Words) -> str:
        """The user's turn."""
        shown = (
            f"{said}{self.labels.before(frame.time)}{IMAGE}{self.labels.after}"
            for said, frame in zip(words.before(frames), frames, strict=True)
        )
        return f"{''.join(shown)}{words.text}"


@dataclass(frozen=True)
class VilaInputs:
    """One request, not padded."""

    input_ids: torch.Tensor
    """``[L]``, :data:`pipeline.models.vila.IMAGE_ID` for each token of a frame."""
    pixels: torch.Tensor
    """``[frames, 3, image_size, image_size]``."""


@dataclass(frozen=True)
class VilaReader:
    """See :class:`pipeline.answerers.local.Reader`."""

    tokens_of: VilaTokens
    pixels_of: VilaPixels
    config: VilaConfig
    form: VilaForm

    @classmethod
    def open(
        cls, checkpoint: Checkpoint, config: VilaConfig, form: VilaForm, conversation: ConversationName
    ) -> VilaReader:
        """Read a checkpoint's tokenizer and image settings; no weights.

        Raises:
            CheckpointError: a file is missing, or its settings are not those of the model.
            ConfigError: the conversation is not one of this checkpoint.
        """
        folder = resolve(checkpoint)
        tokens = VilaTokens.open(folder / "llm", conversation, config.yi)
        return cls(tokens, VilaPixels.open(folder / "vision_tower", config), config, form)

    @property
    def context_tokens(self) -> int:
        """See :class:`pipeline.answerers.local.Reader`."""
        return self.config.context_tokens

    @property
    def markup(self) -> tuple[str, ...]:
        """The placeholder of frames, and what the tokenizer reads as one token."""
        return self.tokens_of.markup

    @property
    def smaller(self) -> tuple[str, ...]:
        """A frame has one size; only its label can go."""
        return ()

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames have the vision tower's size."""
        side, conversation = self.config.image_size, self.tokens_of.conversation.name
        return f"{self.form.kind} of {side} x {side} pixels in {conversation}; time: {self.form.time_told()}"

    def tokens(self, frames: Sequence[Frame], words: Words) -> int:
        """See :class:`pipeline.answerers.local.Reader`."""
        return len(self._ids(frames, words))

    @property
    def tokenizer(self) -> VilaTokens:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        return self.tokens_of

    def pixels(self, frames: Sequence[Frame]) -> torch.Tensor:
        """See :class:`pipeline.answerers.local.Reader`."""
        import torch

        return torch.from_numpy(self.pixels_of(frames))

    def encode(self, pixels: torch.Tensor, frames: Sequence[Frame], words: Words) -> VilaInputs:
        """See :class:`pipeline.answerers.local.Reader`."""
        import torch

        return VilaInputs(torch.tensor(self._ids(frames, words)), pixels)

    def language(self, model: Any) -> Any:
        """The Llama."""
        return model.llm

    def frames_end(self, prompt: VilaInputs) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        from pipeline.inference.framed_prompts import last_of
        from pipeline.models.vila import IMAGE_ID

        return last_of(prompt.input_ids, IMAGE_ID)

    def read(self, model: Any, prompt: VilaInputs, length: int, cache: Cache) -> int:
        """See :class:`pipeline.inference.framed_prompts.ReadsPrompts`."""
        embeddings = model.embeddings(prompt.input_ids[None, :length], [prompt.pixels])
        read_with_cache(model.llm.model, cache, inputs_embeds=embeddings)
        return length

    def _ids(self, frames: Sequence[Frame], words: Words) -> list[int]:
        from pipeline.models.vila import IMAGE_ID

        turn = self.form.turn(frames, words)
        if turn.count(IMAGE) != len(frames):
            raise ConfigError(
                f"The prompt holds {IMAGE} {turn.count(IMAGE)} times for {len(frames)} frames.",
                f"Take {IMAGE} out of the prompt texts in the YAML: it is written for each frame.",
            )
        return self.tokens_of.ids(turn, [IMAGE_ID] * self.config.tokens_per_frame, words.system, words.begun)
