"""Frames and words as inputs of one Qwen3-VL checkpoint."""

from __future__ import annotations

from pipeline.answerers.qwen_forms import QwenForm
from pipeline.answerers.qwen_reader import QwenReader
from pipeline.models.chat import load_tokenizer
from pipeline.models.checkpoint import Checkpoint, resolve
from pipeline.models.qwen3_family import Qwen3Scale, family, load_qwen3_image_processor
from pipeline.models.qwen_family import check_placeholders, context_tokens


def open_reader(checkpoint: Checkpoint, scale: Qwen3Scale, form: QwenForm, system: str | None) -> QwenReader:
    """Read a checkpoint's tokenizer and image settings; no weights.

    Raises:
        CheckpointError: it is another model, or a file is missing or does not go with the others.
    """
    found = family(checkpoint)  # says what another model is, before its files are taken for a Qwen3's
    folder, context = resolve(checkpoint), context_tokens(checkpoint)
    tokenizer, processor = load_tokenizer(folder), load_qwen3_image_processor(folder)
    check_placeholders(checkpoint, tokenizer)
    return QwenReader(tokenizer, processor, found, context, scale, form, system)
