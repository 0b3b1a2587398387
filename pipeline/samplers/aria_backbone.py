"""The model under GenS as released: Aria, in the authors' form (``yi_vl``) or that of transformers.

A frame is 128 tokens whose features depend on nothing but the frame. The prompt is tokenised in the pieces between its
images, so it is cut behind the last image as it is anyway, and text positions are plain 0, 1, 2 ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from pipeline.errors import CheckpointError, ConfigError
from pipeline.inference.greedy import Generated
from pipeline.inference.shared_prefix import Prefix, prefill
from pipeline.models.aria_family import load_aria, place_patches_exactly
from pipeline.models.aria_pixels import Pixels, on_canvas
from pipeline.models.chat import render_chat
from pipeline.models.checkpoint import Checkpoint, release, resolve
from pipeline.models.remedies import restore
from pipeline.models.yi_vl_config import CANVAS, PATCH
from pipeline.models.yi_vl_tokenizer import IMAGE, ChunkTokenizer
from pipeline.samplers.aria_frames import Canvas
from pipeline.samplers.prompt import FramePrompt
from pipeline.samplers.writing import JsonWriter

_FRAMES_AT_ONCE = 16
"""Through the tower in one call. Its projector holds 128 x 1225 attention weights a head and frame."""


@dataclass(frozen=True)
class _Layout:
    """The part of the prompt that holds the frames."""

    input_ids: torch.Tensor
    """``[1, tokens]``."""
    is_image: torch.Tensor
    """``[1, tokens]``, true where a frame's features go."""


class AriaBackbone:
    """See :class:`pipeline.samplers.backbone.Backbone`.

    Raises:
        CheckpointError: it cannot be loaded exactly, or is not of this family.
    """

    def __init__(self, checkpoint: Checkpoint, prompt: FramePrompt, canvas: Canvas) -> None:
        folder = resolve(checkpoint)
        self._checkpoint = checkpoint
        self._prompt = prompt
        self._masked = canvas.pixel_mask == "auto"
        self._model: Any = load_aria(checkpoint)
        if not self._masked:
            place_patches_exactly(self._model)
        text = self._model.config.text_config
        self._context: int = text.max_position_embeddings
        self._tokenizer = ChunkTokenizer(folder, text.vocab_size)
        self._image_token: int = self._tokenizer.image_token
        if self._image_token != self._model.config.image_token_index:
            raise CheckpointError(
                f"{IMAGE} is token {self._image_token} of tokenizer.model, and config.json of {checkpoint.source} has "
                f"image_token_index={self._model.config.image_token_index}.",
                restore("config.json and tokenizer.model of the checkpoint"),
            )
        self._frame_tokens: int = self._model.config.projector_patch_to_query_dict[(CANVAS // PATCH) ** 2]
        self._embed = self._model.get_input_embeddings()
        self._writer = JsonWriter(self._model, self._tokenizer)
        self._layout = lru_cache(maxsize=2)(self._lay_out)  # full windows, and the last one

    def close(self) -> None:
        """Free the weights. The object is of no use afterwards."""
        self._layout.cache_clear()
        release(self._model)

    @property
    def markup(self) -> Sequence[str]:
        """What in a question the tokenizer would take for the model's own markers."""
        return tuple(self._tokenizer.control_tokens)

    @torch.inference_mode()
    def features(self, frames: Sequence[Pixels]) -> list[torch.Tensor]:
        """Each frame as the language model sees it: ``[128, hidden size]``.

        Args:
            frames: from :meth:`pipeline.samplers.aria_frames.Canvas.shrunk`.
        """
        patches = self._model.model.vision_tower.embeddings.patch_embedding.weight
        found: list[torch.Tensor] = []
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            pixels, inside = on_canvas(frames[start : start + _FRAMES_AT_ONCE], like=patches)
            output = self._model.model.get_image_features(pixels, pixel_mask=inside if self._masked else None)
            found += output.pooler_output.to(self._embed.weight).unbind()
        return found

    @torch.inference_mode()
    def prefix(self, features: Sequence[torch.Tensor]) -> Prefix:
        """Read the prompt of a window up to its last frame.

        Args:
            features: of the window's frames, in order.

        Raises:
            ConfigError: the window is longer than the model's context.
        """
        layout = self._layout(len(features))
        device = self._embed.weight.device
        embeddings = self._embed(layout.input_ids.to(device)).clone()
        embeddings[layout.is_image.to(device)] = torch.cat(tuple(features))
        positions = torch.arange(embeddings.shape[1], device=device)[None]
        return prefill(self._model, embeddings, positions)

    def suffix(self, question: str) -> list[int]:
        """The tokens of the prompt behind the last frame; they are the same for every number of frames."""
        return self._chunks(1, question)[-1]

    def write(self, prefix: Prefix, suffixes: Sequence[Sequence[int]], max_new_tokens: int) -> list[Generated]:
        """Greedy answers, each up to the end of the turn or of its JSON.

        The released code decodes to the token limit and cuts the text at the end of the turn.
        """
        return self._writer.write(prefix, suffixes, max_new_tokens)

    def _lay_out(self, frames: int) -> _Layout:
        *shown, tail = self._chunks(frames, "?")
        if tail != self.suffix("?"):
            raise CheckpointError(
                f"The chat template of {self._checkpoint.source} writes other text behind {frames} pictures than "
                "behind one, so questions cannot share the frames.",
                restore("the chat template of GenS in tokenizer_config.json"),
            )
        ids = [token for chunk in shown for token in (*chunk, *[self._image_token] * self._frame_tokens)]
        if len(ids) + len(tail) >= self._context:
            raise ConfigError(
                f"A window of {frames} frames is {len(ids) + len(tail)} tokens, and {self._checkpoint.source} reads "
                f"{self._context}.",
                f"Make windows shorter: sampler.window.frames={max(1, frames * self._context // (2 * len(ids)))}.",
            )
        input_ids = torch.tensor([ids])
        return _Layout(input_ids, input_ids == self._image_token)

    def _chunks(self, frames: int, question: str) -> list[list[int]]:
        """The tokens before, between and behind the images."""
        chunks = self._tokenizer(render_chat(self._tokenizer, self._prompt.content(frames, question)))
        if len(chunks) != frames + 1:
            raise CheckpointError(
                f"The prompt holds {IMAGE} {len(chunks) - 1} times for {frames} frames.",
                f"Take {IMAGE} out of sampler.prompt, or {restore('the chat template of GenS')}",
            )
        return chunks
