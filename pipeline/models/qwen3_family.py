"""Qwen3-VL, dense or with experts: which of them a checkpoint is, its pixels, and loading it.

A token is a square of 32 pixels, two by two patches of 16, and pixels go from -1 to 1. Time is told in text: each
temporal grid of a video is a picture by itself. So transformers' positions need no correction here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pipeline.errors import CheckpointError
from pipeline.models.checkpoint import Checkpoint, load, model_type
from pipeline.models.qwen_family import check_sections
from pipeline.models.qwen_pixels import MERGE, FrameScale, load_image_processor
from pipeline.models.remedies import restore

QWEN3_VL = "qwen3_vl"
QWEN3_VL_MOE = "qwen3_vl_moe"
NAMES = {QWEN3_VL: "Qwen3-VL", QWEN3_VL_MOE: "Qwen3-VL with experts"}
PATCH = 16
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"


class Qwen3Scale(FrameScale):
    """To which size frames are brought: both sides a multiple of 32."""

    unit: ClassVar[int] = PATCH * MERGE


def family(checkpoint: Checkpoint) -> str:
    """``qwen3_vl`` or ``qwen3_vl_moe``.

    Raises:
        CheckpointError: it is another model, and which.
    """
    return model_type(checkpoint, NAMES)


def load_qwen3_image_processor(folder: Path) -> Any:
    """The checkpoint's image processor in its PIL form.

    Raises:
        CheckpointError: ``preprocessor_config.json`` is absent, or is not of this family.
    """
    processor = load_image_processor(folder, PATCH)
    found = [list(processor.image_mean), list(processor.image_std)]
    if found != [[0.5] * 3] * 2:
        raise CheckpointError(
            f"The image processor in {folder} has image_mean and image_std {found}; those of Qwen3-VL are 0.5.",
            restore("preprocessor_config.json of the checkpoint"),
        )
    return processor


def load_qwen3(checkpoint: Checkpoint) -> Any:
    """The model.

    Raises:
        CheckpointError: it is another model, or its tensors are not exactly those.
    """
    from transformers import Qwen3VLForConditionalGeneration, Qwen3VLMoeForConditionalGeneration

    from pipeline.models.frames_at_once import attend_frames_at_once

    classes = {QWEN3_VL: Qwen3VLForConditionalGeneration, QWEN3_VL_MOE: Qwen3VLMoeForConditionalGeneration}
    model: Any = load(classes[family(checkpoint)], checkpoint)
    check_sections(checkpoint, model)
    attend_frames_at_once(model.model.visual)
    return model
