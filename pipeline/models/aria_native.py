"""Aria as its authors released it (``rhymes-ai/Aria``, arXiv 2410.05993), in transformers' own class.

Unlike GenS, which is this model trained further, it is given the mask of what lies beside a frame on its canvas, and
its routers are transformers' own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.models.aria_family import ARIA
from pipeline.models.checkpoint import Checkpoint, load, model_type, raw_config
from pipeline.models.qwen_family import context_tokens
from pipeline.models.remedies import restore
from pipeline.models.yi_vl_config import CANVAS, PATCH
from pipeline.models.yi_vl_tokenizer import IMAGE, ChunkTokenizer

_NAMES = {ARIA: "Aria"}
_DEFAULTS: dict[str, Any] = {"image_token_index": 9, "projector_patch_to_query_dict": {"1225": 128, "4900": 256}}
"""What transformers takes for keys that are absent."""


@dataclass(frozen=True)
class AriaShape:
    """What ``config.json`` says of a checkpoint."""

    context_tokens: int
    """Tokens that prompt and answer may have together."""
    frame_tokens: int
    """Of a frame on a canvas of 490 x 490 pixels."""
    image_token: int
    vocabulary: int


def shape(checkpoint: Checkpoint) -> AriaShape:
    """Read from ``config.json`` alone.

    Raises:
        CheckpointError: it is another model, and which; or a value is missing.
    """
    model_type(checkpoint, _NAMES)
    config = _DEFAULTS | raw_config(checkpoint)
    patches = str((CANVAS // PATCH) ** 2)
    try:
        return AriaShape(
            context_tokens=context_tokens(checkpoint),
            frame_tokens=int(config["projector_patch_to_query_dict"][patches]),
            image_token=int(config["image_token_index"]),
            vocabulary=int(config["text_config"]["vocab_size"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"config.json of {checkpoint.source} is not Aria's: {error!r} is missing or no number.",
            restore("config.json of the checkpoint"),
        ) from error


def open_tokenizer(folder: Path, found: AriaShape) -> ChunkTokenizer:
    """The tokenizer that the authors' processor runs: SentencePiece, as transformers' slow tokenizer of version 4.

    Raises:
        CheckpointError: its files are missing, or belong to another model.
    """
    tokenizer = ChunkTokenizer(folder, found.vocabulary)
    if tokenizer.image_token != found.image_token:
        raise CheckpointError(
            f"{IMAGE} is token {tokenizer.image_token} of tokenizer.model, and config.json has "
            f"image_token_index={found.image_token}.",
            restore("config.json and tokenizer.model of the checkpoint"),
        )
    return tokenizer


def prompt_tokens(tokenizer: ChunkTokenizer, found: AriaShape, prompt: str, frames: int) -> list[int]:
    """A rendered prompt, each image as often as it has tokens.

    Raises:
        CheckpointError: the prompt does not hold one image a frame.
    """
    ids = tokenizer.whole(prompt)
    if (images := ids.count(found.image_token)) != frames:
        raise CheckpointError(
            f"The prompt holds {IMAGE} {images} times for {frames} frames.",
            f"Leave {IMAGE} out of the prompt texts in the YAML. {restore('the chat template of the checkpoint')}",
        )
    repeats = {found.image_token: found.frame_tokens}
    return [copy for token in ids for copy in [token] * repeats.get(token, 1)]


def load_native(checkpoint: Checkpoint) -> Any:
    """The model.

    Raises:
        CheckpointError: it is another model, or its tensors are not exactly those.
    """
    from transformers import AriaForConditionalGeneration

    model_type(checkpoint, _NAMES)
    return load(AriaForConditionalGeneration, checkpoint)
