"""Frames for GenS on Aria: every one on the same canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.models.aria_pixels import Pixels


@dataclass(frozen=True)
class Canvas:
    """490 x 490 pixels, of which a frame covers 490 x 336 at least and the rest is black: 128 tokens."""

    pixel_mask: Literal["none", "auto"]
    """``auto`` tells the vision tower which pixels are the frame's. The released code makes that mask and does not use
    it, so ``none`` is what it computes; nobody has published which of them the weights were trained with."""

    @property
    def tokens(self) -> int:
        """As many on every canvas of this size."""
        return 128

    def shrunk(self, pixels: Pixels) -> Pixels:
        """A frame as it is put on the canvas, by the authors' two resizes.

        Raises:
            FramesError: one side is more than 490 times the other.
        """
        from pipeline.models.aria_pixels import shrink

        return shrink(pixels)
