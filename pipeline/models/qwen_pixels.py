"""Pixels of Qwen2-VL and Qwen2.5-VL: sizes by the family's resize rule, patches by the PIL image processor alone.

The PIL processor reproduces the authors' pixels bit for bit, and needs no torchvision. The rule is ``smart_resize``:
both sides a multiple of 28, the area within limits, the aspect kept. It stands here as qwen-vl-utils has it, because
importing theirs needs torchvision and the equal one beside the PIL processor torch: what a frame costs is told without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import CheckpointError, ConfigError, FramesError
from pipeline.models.remedies import override, restore

if TYPE_CHECKING:
    import torch

PATCH = 14
MERGE = 2
UNIT = PATCH * MERGE
"""Pixels along one side of the square that becomes one token."""
_MOST_UNEQUAL = 200

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FrameScale:
    """To which size frames are brought."""

    min_pixels: int
    """Smaller frames are enlarged to at least this area."""
    max_pixels: int
    """Larger frames are reduced to at most this area; a token is ``unit * unit`` pixels."""
    fixed: tuple[int, int] | None
    """Height and width for every frame, whatever its shape; then the limits above do not apply."""

    unit: ClassVar[int] = UNIT
    """Pixels along one side of a token; a family with other patches has a scale of its own."""

    def __post_init__(self) -> None:
        unit = self.unit
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ConfigError(
                f"min_pixels={self.min_pixels} and max_pixels={self.max_pixels} leave no size for a frame.",
                f"Take 0 < min_pixels <= max_pixels, say answerer.min_pixels={4 * unit**2} "
                f"answerer.max_pixels={256 * unit**2}.",
            )
        if self.max_pixels < unit**2:
            raise ConfigError(
                f"max_pixels={self.max_pixels} is less than one token.",
                f"A token is {unit} x {unit} pixels: answerer.max_pixels={256 * unit**2} gives up to 256 a frame.",
            )
        if self.fixed is not None and any(side < unit or side % unit for side in self.fixed):
            rows, columns = (max(unit, round(side / unit) * unit) for side in self.fixed)
            raise ConfigError(
                f"A frame of {self.fixed[0]} x {self.fixed[1]} pixels cannot be cut into tokens of {unit} x {unit} "
                "pixels.",
                f"Take multiples, say answerer.frame_size=[{rows},{columns}] (sampler.frame.height={rows} "
                f"sampler.frame.width={columns} for the sampler).",
            )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a frame of this shape gets.

        Raises:
            FramesError: one side is more than 200 times the other.
        """
        if self.fixed is not None:
            return self.fixed
        if max(height, width) > _MOST_UNEQUAL * min(height, width):
            raise FramesError(
                f"A frame of {height} x {width} pixels is too long a strip for this model.",
                f"Give all frames one shape: answerer.frame_size=[{9 * self.unit},{16 * self.unit}].",
            )
        return _smart_resize(height, width, self.unit, self.min_pixels, self.max_pixels)

    def tokens(self, height: int, width: int) -> int:
        """Tokens that a frame of this shape becomes."""
        sized = self.size(height, width)
        return sized[0] * sized[1] // self.unit**2


def _smart_resize(height: int, width: int, unit: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    rows, columns = (round(side / unit) * unit for side in (height, width))
    if rows * columns > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(unit, math.floor(side / shrink / unit) * unit) for side in (height, width))
    elif rows * columns < min_pixels:
        enlarge = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * enlarge / unit) * unit for side in (height, width))
    return rows, columns


@dataclass(frozen=True)
class Patches:
    """Frames as the vision tower takes them."""

    values: torch.Tensor
    """``[patches, 3 * 2 * patch * patch]`` float32, all frames after one another."""
    grids: torch.Tensor
    """``[pictures, 3]``: temporal grids, rows and columns of patches of each image, or of one video."""

    @property
    def tokens(self) -> list[int]:
        """Tokens of each picture."""
        return [int(grid.prod()) // MERGE**2 for grid in self.grids]


def load_image_processor(folder: Path, patch: int = PATCH) -> Any:
    """The checkpoint's image processor in its PIL form.

    Args:
        folder: the checkpoint's.
        patch: pixels along one side of a patch, as the family has it.

    Raises:
        CheckpointError: ``preprocessor_config.json`` is absent, or cuts other patches than this family does.
    """
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    try:
        processor = Qwen2VLImageProcessorPil.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"The image processor in {folder} cannot be read: {error}",
            restore("preprocessor_config.json of the checkpoint"),
        ) from error
    found = (processor.patch_size, processor.merge_size, processor.temporal_patch_size)
    if found != (patch, MERGE, 2):
        raise CheckpointError(
            f"The image processor in {folder} has patch, merge and temporal sizes {found}; the model's family has "
            f"{(patch, MERGE, 2)}.",
            f"Name a checkpoint of this family: {override('source')}.",
        )
    for key in ("image_mean", "image_std"):
        values = getattr(processor, key)
        if not isinstance(values, list | tuple) or not all(isinstance(value, int | float) for value in values):
            raise CheckpointError(
                f"preprocessor_config.json in {folder} has {key}={values!r}.",
                restore("preprocessor_config.json of the checkpoint"),
            )
    return processor


def image_patches(processor: Any, frames: Sequence[Pixels], scale: FrameScale) -> Patches:
    """Every frame an image of its own.

    Args:
        processor: from :func:`load_image_processor`.
        frames: RGB ``[height, width, 3]`` each.
        scale: the size they get.

    Raises:
        FramesError: a frame is too long a strip.
    """
    from PIL import Image

    resized = []
    for frame in frames:
        height, width = scale.size(*frame.shape[:2])
        resized.append(np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)))
    made = processor(
        images=resized, do_resize=False, return_tensors="pt", input_data_format="channels_last", do_convert_rgb=False
    )
    return Patches(made["pixel_values"], made["image_grid_thw"])


def video_patches(images: Patches, pairs: Sequence[tuple[int, int]]) -> Patches:
    """One video whose temporal grids are made of two images each.

    An image fills both halves of a patch in time with the same pixels. A video's patch takes its first half from one
    frame and its second from another; a pair ``(i, i)`` is image ``i`` unchanged.

    Args:
        images: frames of one size, from :func:`image_patches`.
        pairs: the indices of the frames of each temporal grid.
    """
    import torch

    rows, columns = (int(side) for side in images.grids[0, 1:])
    halves = images.values.view(len(images.grids), rows * columns, 3, 2, -1)
    first = halves[[pair[0] for pair in pairs], :, :, 0]
    second = halves[[pair[1] for pair in pairs], :, :, 1]
    values = torch.stack((first, second), dim=3).reshape(len(pairs) * rows * columns, -1)
    return Patches(values, torch.tensor([[len(pairs), rows, columns]]))
