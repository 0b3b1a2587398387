"""The model under GenS when it is Qwen2-VL or Qwen2.5-VL, fed with windows of small frames.

Each frame is an image item of its own (temporal extent 1), so the vision tower's result for it does not depend on its
neighbours or on the window it is in. The prompt is cut right behind the last image token: special tokens are boundaries
for every tokenizer, so the two parts' tokens are those of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from pipeline.errors import CheckpointError, ConfigError
from pipeline.inference.greedy import Generated
from pipeline.inference.shared_prefix import Prefix, prefill
from pipeline.models.chat import load_tokenizer, render_chat, special_tokens
from pipeline.models.checkpoint import Checkpoint, release, resolve
from pipeline.models.qwen_family import IMAGE_PAD, context_tokens, load_qwen
from pipeline.models.qwen_inputs import encode
from pipeline.models.qwen_pixels import PATCH, Patches, Pixels, image_patches, load_image_processor
from pipeline.samplers.frames import FrameSize
from pipeline.samplers.prompt import FramePrompt
from pipeline.samplers.writing import JsonWriter

_PATCHES_AT_ONCE = 2**15  # through the vision tower in one call: a window of 256 frames at 112 x 112 is half of it


@dataclass(frozen=True)
class _Layout:
    """The part of the prompt that holds the frames."""

    input_ids: torch.Tensor
    """``[1, tokens]``."""
    is_image: torch.Tensor
    """``[1, tokens]``, true where a frame's features go."""
    positions: torch.Tensor
    """``[3, 1, tokens]``."""


class QwenBackbone:
    """See :class:`pipeline.samplers.backbone.Backbone`.

    Raises:
        CheckpointError: it cannot be loaded, or is neither Qwen2-VL nor Qwen2.5-VL.
    """

    def __init__(self, checkpoint: Checkpoint, prompt: FramePrompt, size: FrameSize) -> None:
        folder = resolve(checkpoint)
        self._checkpoint = checkpoint
        self._prompt = prompt
        self._scale = size.scale
        self._grid = [1, size.height // PATCH, size.width // PATCH]
        self._image_processor = load_image_processor(folder)
        self._tokenizer = load_tokenizer(folder)
        self._image_token = self._tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        self._context = context_tokens(checkpoint)
        self._model: Any = load_qwen(checkpoint)
        self._embed = self._model.get_input_embeddings()
        self._writer = JsonWriter(self._model, self._tokenizer)
        self._layout = lru_cache(maxsize=2)(self._lay_out)  # full windows, and the last one

    def close(self) -> None:
        """Free the weights. The object is of no use afterwards."""
        self._layout.cache_clear()
        release(self._model)

    @property
    def markup(self) -> Sequence[str]:
        """What in a question the tokenizer would take for the model's own control tokens."""
        return special_tokens(self._tokenizer)

    @torch.inference_mode()
    def features(self, frames: Sequence[Pixels]) -> list[torch.Tensor]:
        """Each frame as the language model sees it: ``[tokens, hidden size]``.

        Args:
            frames: RGB ``[height, width, 3]``.
        """
        tower = self._model.model.visual
        at_once = max(1, _PATCHES_AT_ONCE // int(np.prod(self._grid)))
        found: list[torch.Tensor] = []
        for start in range(0, len(frames), at_once):
            patches = image_patches(self._image_processor, frames[start : start + at_once], self._scale)
            count = len(patches.grids)
            # Frames of one size are one grid row to the tower, which attends within each temporal step alone.
            grid = torch.tensor([[count, *self._grid[1:]]], device=tower.device)
            output = self._model.model.get_image_features(patches.values.to(tower.device), grid)
            found += torch.cat(tuple(output.pooler_output)).to(self._embed.weight).chunk(count)
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
        return prefill(self._model, embeddings, layout.positions.to(device))

    def suffix(self, question: str) -> list[int]:
        """The tokens of the prompt behind the last frame; they are the same for every number of frames."""
        return self._halves(1, question)[1]

    def write(self, prefix: Prefix, suffixes: Sequence[Sequence[int]], max_new_tokens: int) -> list[Generated]:
        """Greedy answers, each up to its end or the end of its JSON."""
        return self._writer.write(prefix, suffixes, max_new_tokens)

    def _lay_out(self, frames: int) -> _Layout:
        probe = "?"
        head, tail = self._halves(frames, probe)
        if tail != self.suffix(probe):
            raise CheckpointError(
                f"The chat template of {self._checkpoint.source} writes other text behind {frames} pictures than "
                "behind one, so questions cannot share the frames.",
                "Put the template of Qwen2-VL or Qwen2.5-VL into the checkpoint's chat_template.jinja.",
            )
        if len(head) + len(tail) >= self._context:
            raise ConfigError(
                f"A window of {frames} frames is {len(head) + len(tail)} tokens, and {self._checkpoint.source} reads "
                f"{self._context}.",
                f"Make windows shorter: sampler.window.frames={max(1, frames * self._context // (2 * len(head)))}; or "
                "frames smaller: sampler.frame.height=112 sampler.frame.width=112.",
            )
        input_ids = torch.tensor([head])
        is_image = input_ids == self._image_token
        positions, _ = self._model.model.get_rope_index(
            input_ids, is_image.int(), image_grid_thw=torch.tensor([self._grid] * frames)
        )
        return _Layout(input_ids, is_image, positions)

    def _halves(self, frames: int, question: str) -> tuple[list[int], list[int]]:
        """The prompt's tokens up to its last image token, and those behind it."""
        chat = render_chat(self._tokenizer, self._prompt.content(frames, question))
        grids = torch.tensor([self._grid] * frames)
        ids: list[int] = encode(self._tokenizer, chat, Patches(torch.empty(0), grids)).input_ids.tolist()
        cut = len(ids) - ids[::-1].index(self._image_token)
        return ids[:cut], ids[cut:]
