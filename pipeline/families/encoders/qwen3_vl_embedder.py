"""Qwen3-VL-Embedding: pictures and texts as vectors of one decoder.

Sources: the README and ``src/models/qwen3_vl_embedding.py`` of github.com/QwenLM/Qwen3-VL-Embedding. Whatever is
embedded is the user's turn of a chat whose system turn is an instruction; the chat ends where an answer would begin.
The hidden state of its last token after the last layer, made a unit vector, is the embedding. The tokenizer is left to
add an end token of its own, if it has one. Pictures are resized by Qwen's rule to multiples of 32 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel, Qwen3VLPreTrainedModel

from pipeline.families.chat import IMAGE, Content, load_tokenizer, render_chat, special_tokens, text
from pipeline.families.encoders import QWEN3_VL_EMBEDDING_NAMES
from pipeline.families.loading.checkpoint import Checkpoint, load, model_type, release, resolve
from pipeline.families.pixels import Patches
from pipeline.families.qwen.processor import IMAGE_PAD, FrameScale3, check_placeholders, read_levels_3
from pipeline.families.seam import Pixels, PreparedFrame

MIN_PIXELS = 4 * FrameScale3.unit**2
"""Smaller pictures are enlarged to at least this area, as in the authors' code."""
_TEXTS_AT_ONCE = 16


class Qwen3VLForEmbedding(Qwen3VLPreTrainedModel):  # type: ignore[misc]  # transformers has no types
    """The decoder and its vision tower, under the tensor names of the authors' class of this name; no head."""

    _keys_to_ignore_on_load_unexpected = (r"^lm_head\.",)  # some copies keep the head, which is not used

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = Qwen3VLModel(config)
        self.post_init()


class Qwen3VLEmbedder:
    """A loaded checkpoint.

    Args:
        checkpoint: what to load.
        frame_instruction: system turn where a frame is embedded.
        question_instruction: system turn where a question is.
        max_pixels: frames of a larger area are reduced.

    Raises:
        CheckpointError: it cannot be loaded, is of another family, or has files that contradict one another.
    """

    def __init__(
        self, checkpoint: Checkpoint, frame_instruction: str, question_instruction: str, max_pixels: int
    ) -> None:
        model_type(checkpoint, QWEN3_VL_EMBEDDING_NAMES)
        folder = resolve(checkpoint)
        self._frame_instruction = frame_instruction
        self._question_instruction = question_instruction
        self._scale = FrameScale3(MIN_PIXELS, max_pixels, None)
        self._tokenizer = load_tokenizer(folder)
        check_placeholders(checkpoint, self._tokenizer)
        self._image_token = self._tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        self._patches = Patches(read_levels_3(folder), FrameScale3.unit)
        self._model: Any = load(Qwen3VLForEmbedding, checkpoint).model

    @property
    def markup(self) -> tuple[str, ...]:
        """What in a question the tokenizer would take for its own control tokens."""
        return special_tokens(self._tokenizer)

    @property
    def prepare(self) -> Callable[[Pixels], PreparedFrame]:
        """Makes of a decoded frame what the model sees. It can be pickled, and raises FramesError for some shapes."""
        return self._scale.prepare

    def embed_frames(self, prepared: Sequence[PreparedFrame]) -> npt.NDArray[np.float32]:
        """Unit vectors ``[frames, hidden size]`` of prepared frames, in one call of the model."""
        once = self._ids([dict(IMAGE)], self._frame_instruction)
        place = once.index(self._image_token)
        rows = [[*once[:place], *[self._image_token] * frame.shape.tokens, *once[place + 1 :]] for frame in prepared]
        return self._embed(
            rows,
            pixel_values=self._patches.images(prepared, self._model.visual.patch_embed.proj.weight),
            image_grid_thw=torch.tensor([self._patches.grid(frame.shape) for frame in prepared]),
        )

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors ``[texts, hidden size]``. The decoder reads tens of thousands of tokens; nothing is cut."""
        rows = [self._ids([text(words)], self._question_instruction) for words in texts]
        parts = [self._embed(rows[start : start + _TEXTS_AT_ONCE]) for start in range(0, len(rows), _TEXTS_AT_ONCE)]
        return np.concatenate(parts)

    def close(self) -> None:
        """Free the weights. The object is of no use afterwards."""
        release(self._model)

    def _ids(self, content: Content, instruction: str) -> list[int]:
        ids: list[int] = self._tokenizer(render_chat(self._tokenizer, content, instruction), verbose=False).input_ids
        return ids

    @torch.inference_mode()
    def _embed(self, rows: Sequence[Sequence[int]], **pictures: torch.Tensor) -> npt.NDArray[np.float32]:
        """The last token's state of each row; padding follows it, so it changes nothing."""
        device = self._model.device
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for padded, row in zip(ids, rows, strict=True):
            padded[: len(row)] = torch.tensor(row)
        seen = torch.arange(ids.shape[1]) < lengths[:, None]
        output = self._model(
            input_ids=ids.to(device),
            attention_mask=seen.long().to(device),
            mm_token_type_ids=(ids == self._image_token).int().to(device),
            use_cache=False,
            **{name: tensor.to(device) for name, tensor in pictures.items()},
        )
        last = output.last_hidden_state[torch.arange(len(rows)), lengths - 1]
        unit: npt.NDArray[np.float32] = torch.nn.functional.normalize(last.float(), dim=-1).cpu().numpy()
        return unit
