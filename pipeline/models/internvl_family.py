"""InternVL3 in the form that transformers loads by itself (``OpenGVLab/InternVL3-*-hf``): limits, pixels, loading.

Source: Zhu et al. 2025, "InternVL3", arXiv 2504.10479. A frame of a video is one tile of 448 x 448 pixels, whatever its
shape, and 256 tokens. A lone image would be cut into up to twelve tiles; a frame is shown as one of a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import CheckpointError
from pipeline.models.checkpoint import Checkpoint, load, model_type, raw_config
from pipeline.models.qwen_family import context_tokens
from pipeline.models.remedies import restore

if TYPE_CHECKING:
    import torch

INTERNVL = "internvl"
NAMES = {INTERNVL: "InternVL3 (-hf)"}
IMAGE_CONTEXT = "<IMG_CONTEXT>"
IMAGE_START = "<img>"
IMAGE_END = "</img>"
_IMAGENET = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]


@dataclass(frozen=True)
class InternVLShape:
    """What ``config.json`` says of a checkpoint."""

    context_tokens: int
    """Tokens that prompt and answer may have together."""
    side: int
    """Pixels of a frame's sides."""
    frame_tokens: int


def shape(checkpoint: Checkpoint) -> InternVLShape:
    """Read from ``config.json`` alone.

    Raises:
        CheckpointError: it is another model, and which; or a value is missing.
    """
    model_type(checkpoint, NAMES)
    config = raw_config(checkpoint)
    try:
        vision = config["vision_config"]
        side, patch = (_one(vision[key]) for key in ("image_size", "patch_size"))
        tokens = int((side // patch) ** 2 * config["downsample_ratio"] ** 2)
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"config.json of {checkpoint.source} is not InternVL's: {error!r} is missing or no number.",
            restore("config.json of the checkpoint"),
        ) from error
    return InternVLShape(context_tokens(checkpoint), side, tokens)


def load_image_processor(folder: Path, found: InternVLShape) -> Any:
    """The checkpoint's image processor in its PIL form.

    Raises:
        CheckpointError: ``preprocessor_config.json`` is absent, or is not of this model.
    """
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    remedy = restore("preprocessor_config.json of the checkpoint")
    try:
        processor = GotOcr2ImageProcessorPil.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"The image processor in {folder} cannot be read: {error}", remedy) from error
    size = dict(processor.size)
    if (size.get("height"), size.get("width")) != (found.side, found.side):
        raise CheckpointError(f"{folder} scales images to {size}, and its vision tower takes {found.side}.", remedy)
    if [list(processor.image_mean), list(processor.image_std)] != _IMAGENET:
        raise CheckpointError(f"The image processor in {folder} has not the image_mean of InternVL.", remedy)
    return processor


def frame_pixels(processor: Any, frames: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
    """Every frame as one tile.

    Args:
        processor: from :func:`load_image_processor`.
        frames: RGB ``[height, width, 3]`` each.

    Returns:
        ``[frames, 3, side, side]`` float32.
    """
    made = processor(
        images=list(frames),
        crop_to_patches=False,
        do_convert_rgb=False,
        input_data_format="channels_last",
        return_tensors="pt",
    )
    pixels: torch.Tensor = made["pixel_values"]
    return pixels


def load_internvl(checkpoint: Checkpoint) -> Any:
    """The model.

    Raises:
        CheckpointError: it is another model, or its tensors are not exactly those.
    """
    from transformers import InternVLForConditionalGeneration

    shape(checkpoint)
    return load(InternVLForConditionalGeneration, checkpoint)


def _one(sides: Any) -> int:
    return int(sides[0] if isinstance(sides, list) else sides)
