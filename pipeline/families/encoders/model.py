"""Loaded encoders: pictures and texts become vectors that compare by cosine.

CLIP (arXiv 2103.00020), SigLIP (arXiv 2303.15343) and SigLIP 2 (arXiv 2502.14786) have a tower for pictures and one for
texts. Frames get their size as :mod:`pipeline.families.encoders.frames` has it, and are normalised on the device.

Qwen3-VL-Embedding is one decoder. Sources: the README and ``src/models/qwen3_vl_embedding.py`` of
github.com/QwenLM/Qwen3-VL-Embedding. Whatever is embedded is the user's turn of a chat whose system turn is an
instruction; the chat ends where an answer would begin. The hidden state of its last token after the last layer, made a
unit vector, is the embedding. The tokenizer is left to add an end token of its own, if it has one. Pictures are resized
by Qwen's rule to multiples of 32 pixels.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel, Qwen3VLPreTrainedModel

from pipeline.errors import CheckpointError
from pipeline.families.chat import IMAGE, Content, load_tokenizer, read_tokenizer, render_chat, special_tokens, text
from pipeline.families.encoders import QWEN3_VL_EMBEDDING_NAMES
from pipeline.families.encoders.frames import AnyAspect, OneSize
from pipeline.families.known import restore
from pipeline.families.loading.checkpoint import Checkpoint, load, model_type, release, resolve
from pipeline.families.pixels import Levels, Patches, read_image_processor, stock_levels
from pipeline.families.qwen.processor import IMAGE_PAD, FrameScale3, check_placeholders, read_levels_3
from pipeline.families.seam import Pixels, PreparedFrame

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_RESTORE = restore("the tokenizer files of the checkpoint")
_TEXTS_AT_ONCE = 64
_MIN_PIXELS = 4 * FrameScale3.unit**2
"""Smaller pictures are enlarged to at least this area, as in the authors' code."""
_CHATS_AT_ONCE = 16
"""Texts of the one decoder, which is far larger than a text tower."""


@dataclass(frozen=True)
class TextRows:
    """How a checkpoint of CLIP, SigLIP or SigLIP 2 wants its texts.

    All were trained on lower-cased text, padded on the right to the full length, without a mask: SigLIP takes its
    vector from the last position, whatever stands there (big_vision issues 186 and 187 tell what other padding and case
    cost); CLIP from the first end token, after which nothing counts. So this form is the right one for each.
    """

    encode: Callable[[str], list[int]]
    """Tokens of a lower-cased text without control tokens."""
    before: Sequence[int]
    """Control tokens before each text."""
    after: Sequence[int]
    """Control tokens after it."""
    pad: int
    markup: tuple[str, ...]
    """Strings that the tokenizer takes for control tokens."""

    @classmethod
    def read(cls, folder: Path) -> TextRows:
        """The tokenizer of a checkpoint folder.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        try:
            pieces = folder / "spiece.model"
            return _from_sentencepiece(pieces) if pieces.is_file() else _from_tokenizer(folder)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"The tokenizer in {folder} cannot be read: {error}", _RESTORE) from error

    def rows(self, text: str, length: int) -> list[list[int]]:
        """One row of ``length`` tokens, or as few as hold a longer text, in pieces of nearly equal length."""
        ids = self.encode(text.lower())
        room = length - len(self.before) - len(self.after)
        pieces = np.array_split(np.array(ids, dtype=int), max(1, -(-len(ids) // room)))
        rows = [[*self.before, *piece.tolist(), *self.after] for piece in pieces]
        return [row + [self.pad] * (length - len(row)) for row in rows]


def _from_tokenizer(folder: Path) -> TextRows:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        # Transformers would make an empty tokenizer out of config.json and say nothing.
        raise CheckpointError(f"{folder} has no tokenizer.json, vocab.json or spiece.model.", _RESTORE)
    tokenizer = read_tokenizer(folder)

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    whole, bare = tokenizer("a").input_ids, encode("a")
    start = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    before, after = whole[:start], whole[start + len(bare) :]
    return TextRows(encode, before, after, tokenizer.pad_token_id, special_tokens(tokenizer))


def _from_sentencepiece(path: Path) -> TextRows:
    """SigLIP's own: punctuation is left out and the end token pads too (``big_vision``: ``eos="sticky"``).

    Transformers' class for it gives the same tokens, and needs protobuf besides.
    """
    import sentencepiece

    pieces: Any = sentencepiece.SentencePieceProcessor(model_file=str(path))
    end = pieces.eos_id()

    def encode(text: str) -> list[int]:
        ids: list[int] = pieces.encode(re.sub(r"\s+", " ", text.translate(_PUNCTUATION)).strip())
        return ids

    return TextRows(encode, (), (end,), end, ())


class DualEncoder:
    """A loaded checkpoint that embeds pictures and texts.

    Args:
        checkpoint: what to load.
        families: the model types that are meant, with the names that people know.

    Raises:
        CheckpointError: it cannot be loaded, or is of another family.
    """

    def __init__(self, checkpoint: Checkpoint, families: Mapping[str, str]) -> None:
        kind = model_type(checkpoint, families)
        folder = resolve(checkpoint)
        model_class, processor_class = _classes(kind)
        self._texts = TextRows.read(folder)
        stock = read_image_processor(processor_class, folder)
        self._rule = AnyAspect.read(stock, folder) if kind == "siglip2" else OneSize.read(stock, folder)
        self._levels = Levels(stock_levels(stock, folder))
        self._model: Any = load(model_class, checkpoint)
        self._length = self._model.config.text_config.max_position_embeddings

    @property
    def markup(self) -> tuple[str, ...]:
        """What in a question the tokenizer would take for its own control tokens."""
        return self._texts.markup

    @property
    def prepare(self) -> Callable[[Pixels], Pixels]:
        """Brings a decoded frame to the size that the picture tower takes. It can be pickled."""
        return self._rule.prepare

    @torch.inference_mode()
    def embed_frames(self, prepared: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Unit vectors ``[frames, dimensions]`` of prepared frames, in one call of the picture tower."""
        return _unit(self._model.get_image_features(**self.arguments(prepared)).pooler_output)

    def measured(self, prepared: Sequence[Pixels]) -> tuple[int, int]:
        """Patches without those that fill up rows; there are no prompts."""
        side = self._model.config.vision_config.patch_size
        return sum((pixels.shape[0] // side) * (pixels.shape[1] // side) for pixels in prepared), 0

    def arguments(self, prepared: Sequence[Pixels]) -> dict[str, torch.Tensor]:
        """What the picture tower is called with: normalised frames, on its device and in its dtype."""
        like = self._model.vision_model.embeddings.patch_embedding.weight
        if isinstance(self._rule, AnyAspect):
            return self._in_patches(prepared, self._rule, like)
        return {"pixel_values": self._levels.of(torch.from_numpy(np.stack(prepared)), like)}

    def _in_patches(self, prepared: Sequence[Pixels], rule: AnyAspect, like: torch.Tensor) -> dict[str, torch.Tensor]:
        """Rows of patches, padded to the most that a frame becomes."""
        side = rule.patch
        parts = []
        for (height, width, _), same in groupby(prepared, key=lambda pixels: pixels.shape):
            rows, columns = height // side, width // side
            pixels = self._levels.of(torch.from_numpy(np.stack(list(same))), like)
            cut = pixels.view(-1, 3, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
            cut = cut.reshape(-1, rows * columns, side * side * 3)
            parts.append(torch.nn.functional.pad(cut, (0, 0, 0, rule.patches - rows * columns)))
        grids = torch.tensor([[extent // side for extent in pixels.shape[:2]] for pixels in prepared])
        shown = torch.arange(rule.patches) < grids.prod(dim=1, keepdim=True)
        return {
            "pixel_values": torch.cat(parts),
            "pixel_attention_mask": shown.int().to(like.device),
            "spatial_shapes": grids.to(like.device),
        }

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors ``[texts, dimensions]``.

        The text towers read 77 (CLIP) or 64 (SigLIP) tokens. A longer text is cut into as few pieces as fit, of nearly
        equal length; its vector is the mean of the pieces' unit vectors, made a unit vector again.
        """
        pieces = [self._texts.rows(text, self._length) for text in texts]
        rows = torch.tensor([row for text in pieces for row in text], device=self._model.device)
        vectors = np.concatenate(
            [
                _unit(self._model.get_text_features(rows[start : start + _TEXTS_AT_ONCE]).pooler_output)
                for start in range(0, len(rows), _TEXTS_AT_ONCE)
            ]
        )
        ends = np.cumsum([len(text) for text in pieces])[:-1]
        means = np.stack([part.mean(axis=0) for part in np.split(vectors, ends)])
        unit: npt.NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return unit

    def close(self) -> None:
        """Free the weights. The object is of no use afterwards."""
        release(self._model)


def _classes(kind: str) -> tuple[type[Any], type[Any]]:
    import transformers
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    return {
        "clip": (transformers.CLIPModel, CLIPImageProcessorPil),
        "siglip": (transformers.SiglipModel, SiglipImageProcessorPil),
        "siglip2": (transformers.Siglip2Model, Siglip2ImageProcessorPil),
    }[kind]


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
        self._scale = FrameScale3(_MIN_PIXELS, max_pixels, None)
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

    def measured(self, prepared: Sequence[PreparedFrame]) -> tuple[int, int]:
        """Patches before they are merged, and the tokens that they become."""
        shapes = [frame.shape for frame in prepared]
        return sum(shape.patches for shape in shapes), sum(shape.tokens for shape in shapes)

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors ``[texts, hidden size]``. The decoder reads tens of thousands of tokens; nothing is cut."""
        rows = [self._ids([text(words)], self._question_instruction) for words in texts]
        parts = [self._embed(rows[start : start + _CHATS_AT_ONCE]) for start in range(0, len(rows), _CHATS_AT_ONCE)]
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
        return _unit(output.last_hidden_state[torch.arange(len(rows)), lengths - 1])


def _unit(vectors: torch.Tensor) -> npt.NDArray[np.float32]:
    made: npt.NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return made
