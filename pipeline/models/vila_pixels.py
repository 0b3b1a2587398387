"""Frames as the vision towers of VILA-1.5 take them: each scaled to a square, whatever its shape.

Source: ``process_image`` in ``mm_utils.py`` (``image_aspect_ratio: resize``) and ``intern_encoder.py`` of
github.com/NVlabs/VILA at commit ec7fb2c; ``SiglipImageProcessor`` of transformers 4.37. The order of the arithmetic is
theirs, so that the pixels are equal to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import CheckpointError
from pipeline.models.remedies import restore
from pipeline.models.vila_config import INTERN_VIT, VilaConfig

if TYPE_CHECKING:
    from pipeline.domain import Frame

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VilaPixels:
    """How one checkpoint's tower wants its pixels."""

    size: int
    """Pixels of a side."""
    scale: float | None
    """What grey levels are multiplied by in double precision; none: divided by 255 in single."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def open(cls, folder: Path, config: VilaConfig) -> VilaPixels:
        """Read the image settings of the tower in ``folder``. For InternViT they are in the authors' code.

        Raises:
            CheckpointError: the settings are missing, or not the tower's.
        """
        if config.tower == INTERN_VIT:
            return cls(config.image_size, None, _IMAGENET_MEAN, _IMAGENET_STD)
        path = folder / "preprocessor_config.json"
        remedy = restore("the files of the checkpoint")
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found = cls(config.image_size, raw["rescale_factor"], tuple(raw["image_mean"]), tuple(raw["image_std"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} has no readable image settings: {error!r}", remedy) from error
        square = {"height": config.image_size, "width": config.image_size}
        if raw.get("size") != square:
            raise CheckpointError(f"{path} scales images to {raw.get('size')}, and the tower takes {square}.", remedy)
        return found

    def __call__(self, frames: Sequence[Frame]) -> npt.NDArray[np.float32]:
        """``[frames, 3, size, size]``."""
        return np.stack([self._one(frame.pixels) for frame in frames])

    def _one(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        from PIL import Image

        image = Image.fromarray(pixels).resize((self.size, self.size), Image.Resampling.BICUBIC)
        levels = np.asarray(image)
        if self.scale is None:
            scaled = levels.astype(np.float32) / np.float32(255)
        else:
            scaled = (levels * self.scale).astype(np.float32)
        normal = (scaled - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1))
