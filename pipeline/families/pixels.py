"""Pixels on their way to a model: resized as the family has it on the CPU, normalised by a table on the device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import CheckpointError, FramesError
from pipeline.families.loading.remedies import restore
from pipeline.families.seam import FrameShape, Pixels, PreparedFrame

if TYPE_CHECKING:
    import torch


class Levels:
    """Normalised values of the 256 grey levels, looked up on the device of the model.

    Looked up instead of computed: the values are those of the family's own image processor to the last bit, on every
    device. A GPU divides by a constant in another rounding than a CPU.

    Args:
        values: ``[3, 256]`` float32, from :func:`levels_of`.
    """

    def __init__(self, values: npt.NDArray[np.float32]) -> None:
        self._values = values

    @cached_property
    def _flat(self) -> torch.Tensor:
        import torch

        return torch.from_numpy(self._values).flatten()

    def of(self, frames: npt.NDArray[np.uint8], like: torch.Tensor) -> torch.Tensor:
        """Normalised frames ``[n, 3, height, width]`` in the dtype and on the device of ``like``.

        Args:
            frames: ``[n, height, width, 3]``.
            like: a weight of the vision tower.
        """
        import torch

        table = self._flat.to(like)
        places = torch.from_numpy(frames).to(like.device).permute(0, 3, 1, 2).to(torch.int32)
        places += torch.tensor([0, 256, 512], dtype=torch.int32, device=like.device)[:, None, None]
        return table.index_select(0, places.flatten()).view(places.shape)


def levels_of(rescale: Any, normalize: Any) -> npt.NDArray[np.float32]:
    """The 256 grey levels of each channel as an image processor normalises them: ``[3, 256]``.

    Args:
        rescale: takes and gives an image ``[3, height, width]``.
        normalize: likewise.
    """
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256)).copy()
    return np.asarray(normalize(rescale(ramp)), dtype=np.float32).reshape(3, 256)


def stock_levels(stock: Any, folder: Path) -> npt.NDArray[np.float32]:
    """As :func:`levels_of`, of one of transformers' image processors.

    Args:
        stock: the processor.
        folder: of its settings.

    Raises:
        CheckpointError: it cannot normalise an image.
    """
    try:
        return levels_of(
            lambda image: stock.rescale(image, stock.rescale_factor),
            lambda image: stock.normalize(image, stock.image_mean, stock.image_std),
        )
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise CheckpointError(
            f"The image settings in {folder} cannot be used: {error}.",
            restore("preprocessor_config.json of the checkpoint"),
        ) from error


def bicubic(pixels: Pixels, shape: FrameShape) -> Pixels:
    """A frame in the given shape, by Pillow's bicubic filter; its proportions are not kept."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((shape.width, shape.height), Image.Resampling.BICUBIC))


def stacked(frames: Iterable[PreparedFrame]) -> npt.NDArray[np.uint8]:
    """Frames of one size: ``[n, height, width, 3]``."""
    return np.stack([frame.pixels for frame in frames])


def fixed_size(scale: float | None, family: str) -> None:
    """Refuse a scale where every frame has one size and costs the same.

    Raises:
        FramesError: a scale other than 1 is asked for.
    """
    if scale not in (None, 1.0):
        raise FramesError(
            f"A frame is to be scaled by {scale:g}, and {family} takes all frames in one size.",
            "Take an answerer whose frames have any size, for instance answerer=qwen2_5_vl_7b, or a selection without "
            "scales.",
        )


def on_device(arguments: Mapping[str, torch.Tensor], device: Any) -> dict[str, torch.Tensor]:
    """The arguments of a call, on the device of the model."""
    return {name: tensor.to(device) for name, tensor in arguments.items()}
