"""Frames in the size that the picture towers of CLIP, SigLIP and SigLIP 2 take. Needs no torch, so that workers do it.

The rules are those of transformers' image processors in their PIL form; pixels are equal to theirs, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline.errors import CheckpointError
from pipeline.families.known import restore
from pipeline.families.pixels import filter_of, scaled
from pipeline.families.seam import Pixels


@dataclass(frozen=True)
class OneSize:
    """Frames of one size: CLIP, SigLIP, and SigLIP 2 with a fixed size."""

    size: tuple[int, int] | int
    """Height and width, whatever the aspect; or the shorter side, with the aspect kept."""
    crop: tuple[int, int] | None
    """Height and width of the middle that is cut out; black surrounds a smaller picture."""
    resample: int
    """Pillow's number of the filter."""

    @classmethod
    def read(cls, stock: Any, folder: Path) -> Self:
        """The rule of an image processor.

        Raises:
            CheckpointError: it has another one.
        """
        _check_steps(stock, folder)
        size = {side: pixels for side, pixels in dict(stock.size).items() if pixels}
        cropped = dict(stock.crop_size or {}) if stock.do_center_crop else {}
        match size:
            case {"height": int(height), "width": int(width)} if len(size) == 2:
                wanted: tuple[int, int] | int = (height, width)
            case {"shortest_edge": int(shorter)} if len(size) == 1:
                wanted = shorter
            case _:
                raise _unusable(folder, f"size is {size}")
        if not stock.do_center_crop and not isinstance(wanted, tuple):
            raise _unusable(folder, "frames keep their aspect and are not cropped to one size")
        if stock.do_center_crop and not (cropped.get("height") and cropped.get("width")):
            raise _unusable(folder, f"crop_size is {cropped}")
        crop = (cropped["height"], cropped["width"]) if stock.do_center_crop else None
        return cls(wanted, crop, filter_of(stock, folder))

    def prepare(self, pixels: Pixels) -> Pixels:
        """A decoded frame in this size."""
        from PIL import Image

        height, width = self._resized(*pixels.shape[:2])
        if self.crop is None:
            return scaled(pixels, height, width, self.resample)
        picture = Image.fromarray(pixels).resize((width, height), self.resample)
        rows, columns = self.crop
        top, left = (height - rows) // 2, (width - columns) // 2
        return np.asarray(picture.crop((left, top, left + columns, top + rows)))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.size, tuple):
            return self.size
        longer = int(self.size * max(height, width) / min(height, width))
        return (longer, self.size) if width <= height else (self.size, longer)


@dataclass(frozen=True)
class AnyAspect:
    """Frames that nearly keep their aspect, in a limited number of patches: SigLIP 2's NaFlex."""

    patch: int
    """Pixels along one side of a patch."""
    patches: int
    """The most that a frame becomes."""
    resample: int
    """Pillow's number of the filter."""

    @classmethod
    def read(cls, stock: Any, folder: Path) -> Self:
        """The rule of an image processor.

        Raises:
            CheckpointError: it has another one.
        """
        _check_steps(stock, folder)
        numbers = (stock.patch_size, stock.max_num_patches)
        if not all(isinstance(number, int) and number > 0 for number in numbers):
            raise _unusable(folder, f"patch_size and max_num_patches are {numbers}")
        return cls(*numbers, filter_of(stock, folder))

    def prepare(self, pixels: Pixels) -> Pixels:
        """A decoded frame with whole patches on each side."""
        return scaled(pixels, *self.size(*pixels.shape[:2]), self.resample)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a frame of this shape: the largest scale whose patches are not too many.

        ``get_image_size_for_max_num_patches`` of transformers. Its bisection is kept step by step, because where it
        stops decides the size.
        """
        precision = 1e-5
        low, high = precision / 10, 100.0
        while high - low >= precision:
            middle = (low + high) / 2
            rows, columns = (self._side(middle, side) // self.patch for side in (height, width))
            if rows * columns <= self.patches:
                low = middle
            else:
                high = middle
        return self._side(low, height), self._side(low, width)

    def _side(self, scale: float, side: int) -> int:
        return max(self.patch, math.ceil(side * scale / self.patch) * self.patch)


def _check_steps(stock: Any, folder: Path) -> None:
    """Check that an image processor resizes, rescales and normalises, and does not pad.

    Raises:
        CheckpointError: it does not.
    """
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not getattr(stock, step):
            raise _unusable(folder, f"{step} is false")
    if getattr(stock, "do_pad", False):
        raise _unusable(folder, "do_pad is true")


def _unusable(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"The image settings in {folder} cannot be used: {why}.",
        restore("preprocessor_config.json of the checkpoint"),
    )
