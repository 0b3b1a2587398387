"""Which Qwen checkpoint is before us: its model class and its limits, from ``config.json`` alone; its placeholders."""

from __future__ import annotations

from typing import Any

from pipeline.errors import CheckpointError
from pipeline.models.checkpoint import Checkpoint, load, model_type, raw_config
from pipeline.models.remedies import restore

QWEN2_VL = "qwen2_vl"
QWEN2_5_VL = "qwen2_5_vl"
IMAGE_PAD = "<|image_pad|>"
VIDEO_PAD = "<|video_pad|>"
_PLACEHOLDER_KEYS = {IMAGE_PAD: ("image_token_id", 151655), VIDEO_PAD: ("video_token_id", 151656)}
"""And what an absent key means."""
NAMES = {QWEN2_VL: "Qwen2-VL", QWEN2_5_VL: "Qwen2.5-VL"}


def family(checkpoint: Checkpoint) -> str:
    """``qwen2_vl`` or ``qwen2_5_vl``.

    Raises:
        CheckpointError: it is another model, and which.
    """
    return model_type(checkpoint, NAMES)


def context_tokens(checkpoint: Checkpoint) -> int:
    """Tokens that prompt and answer may have together.

    Raises:
        CheckpointError: the config does not say.
    """
    config = raw_config(checkpoint)
    # Flat on the hub, nested when saved by transformers 5.
    found = config.get("max_position_embeddings") or (config.get("text_config") or {}).get("max_position_embeddings")
    if not isinstance(found, int):
        raise CheckpointError(
            f"config.json of {checkpoint.source} has no max_position_embeddings.",
            restore("config.json of the checkpoint"),
        )
    return found


def check_placeholders(checkpoint: Checkpoint, tokenizer: Any) -> None:
    """See that ``config.json`` and tokenizer mean the same tokens where pictures stand.

    Raises:
        CheckpointError: they do not, and the model would find no picture in its prompt.
    """
    config = raw_config(checkpoint)
    for word, (key, released) in _PLACEHOLDER_KEYS.items():
        named, found = config.get(key, released), tokenizer.convert_tokens_to_ids(word)
        if named != found:
            raise CheckpointError(
                f"config.json of {checkpoint.source} has {key}={named!r}, and its tokenizer's {word} is {found!r}.",
                restore("config.json and the tokenizer files of the checkpoint"),
            )


def check_sections(checkpoint: Checkpoint, model: Any) -> None:
    """See that the rotary positions of time, row and column fill the model's heads, as no tensor tells.

    Raises:
        CheckpointError: they do not.
    """
    rotary = model.model.language_model.rotary_emb
    sections, width = rotary.mrope_section, len(rotary.inv_freq)
    whole = isinstance(sections, list | tuple) and all(isinstance(size, int) and size > 0 for size in sections)
    if not whole or len(sections) != 3 or sum(sections) != width:
        raise CheckpointError(
            f"config.json of {checkpoint.source} gives mrope_section={sections!r} (under rope_scaling or "
            f"rope_parameters), and the model's heads take three numbers that sum to {width}.",
            restore("config.json of the checkpoint"),
        )


def load_qwen(checkpoint: Checkpoint) -> Any:
    """The model, with right positions for text after a video, and frames of one size looked at in one call.

    Raises:
        CheckpointError: it is another model, or its tensors are not exactly those.
    """
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLForConditionalGeneration

    from pipeline.models.frames_at_once import attend_frames_at_once
    from pipeline.models.qwen_positions import correct_positions

    classes = {QWEN2_VL: Qwen2VLForConditionalGeneration, QWEN2_5_VL: Qwen2_5_VLForConditionalGeneration}
    model: Any = load(classes[family(checkpoint)], checkpoint)
    check_sections(checkpoint, model)
    correct_positions(model)
    attend_frames_at_once(model.model.visual)
    return model
