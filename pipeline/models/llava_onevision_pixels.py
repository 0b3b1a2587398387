"""Pixels of LLaVA-OneVision by the PIL image processor, which gives those of the authors' code without torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import CheckpointError
from pipeline.models.llava_onevision_family import Tower
from pipeline.models.remedies import restore

Pixels = npt.NDArray[np.float32]


def load_image_processor(folder: Path, tower: Tower) -> Any:
    """The checkpoint's ``LlavaOnevisionImageProcessorPil``.

    Raises:
        CheckpointError: ``preprocessor_config.json`` is absent, or scales to another size than the tower takes.
    """
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    remedy = restore("the files of the checkpoint")
    try:
        processor = LlavaOnevisionImageProcessorPil.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder} has no readable image settings: {error}", remedy) from error
    size = dict(processor.size)
    if (size.get("height"), size.get("width")) != (tower.image_size, tower.image_size):
        raise CheckpointError(
            f"{folder} scales images to {size}, and its vision tower takes {tower.image_size} x {tower.image_size}.",
            remedy,
        )
    return processor


def image_pixels(processor: Any, frames: Sequence[npt.NDArray[np.uint8]]) -> Pixels:
    """Each frame as one patch of base resolution: padded to a square with the mean colour, then scaled.

    So is an image of a multi-image prompt. Transformers cuts a *lone* image into up to ten tiles ("anyres"); a lone
    frame is treated here like any other frame instead, so that a frame shows and costs the same wherever it stands.

    Source: Li et al. 2024, "LLaVA-OneVision: Easy Visual Task Transfer"; ``LlavaOnevisionImageProcessor`` of
    transformers.

    Args:
        processor: from :func:`load_image_processor`.
        frames: RGB ``[height, width, 3]`` each.

    Returns:
        ``[frames, 3, image_size, image_size]``.
    """
    background = tuple(int(mean * 255) for mean in processor.image_mean)
    return _scaled(processor, [processor.pad_to_square(frame.transpose(2, 0, 1), background) for frame in frames])


def video_pixels(processor: Any, frames: Sequence[npt.NDArray[np.uint8]]) -> Pixels:
    """Frames of a video: each scaled to a square whatever its shape.

    Source: ``LlavaOnevisionVideoProcessor``. Scaled by Pillow here, since that processor needs torchvision, whose
    bicubic differs from Pillow's in single grey levels.

    Args:
        processor: from :func:`load_image_processor`.
        frames: RGB ``[height, width, 3]`` each.

    Returns:
        ``[frames, 3, image_size, image_size]``.
    """
    return _scaled(processor, [frame.transpose(2, 0, 1) for frame in frames])


def _scaled(processor: Any, images: Sequence[npt.NDArray[np.uint8]]) -> Pixels:
    from transformers.image_utils import SizeDict

    size = SizeDict(height=processor.size["height"], width=processor.size["width"])
    scaled = (processor.resize(image, size=size, resample=processor.resample) for image in images)
    rescaled = (processor.rescale(image, processor.rescale_factor) for image in scaled)
    normal = [processor.normalize(image, processor.image_mean, processor.image_std) for image in rescaled]
    return np.stack(normal).astype(np.float32, copy=False)
