"""How pictures travel to a server: made smaller, compressed, and written into the request as data URLs."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError, FramesError, InputError

_LONGEST = 8192
"""Pixels of the longer side to which a selection may scale a frame up."""
Part = Mapping[str, Any]
"""One entry of a message's ``content``."""


def text_part(text: str) -> Part:
    """Words, as an entry of a message."""
    return {"type": "text", "text": text}


@dataclass(frozen=True)
class SentFrame:
    """The form in which a frame is sent. A server makes its own inputs from it, and may scale it once more."""

    max_side: int | None
    """Pixels. A larger frame is scaled down to this longer side (Lanczos); None keeps the size of the video."""
    format: Literal["jpeg", "png"]
    """``jpeg`` loses a little; ``png`` loses nothing and is several times as large."""
    quality: int
    """Of JPEG, 1 to 100, with 4:2:0 chroma as PIL writes it."""
    detail: Literal["low", "high", "auto"] | None
    """OpenAI's own setting for each image; None: not sent."""

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 1:
            raise ConfigError(
                f"answerer.frame.max_side={self.max_side} leaves no picture.",
                "Take a number of pixels, or null: answerer.frame.max_side=512",
            )
        if not 1 <= self.quality <= 100:
            raise ConfigError(
                f"answerer.frame.quality={self.quality} is not a JPEG quality.",
                "Take 1 to 100: answerer.frame.quality=90",
            )

    def describe(self) -> str:
        """In a few words, for the record."""
        size = "own size" if self.max_side is None else f"longer side at most {self.max_side}"
        kind = f"jpeg {self.quality}" if self.format == "jpeg" else "png"
        return f"{kind}, {size}" + (f", detail {self.detail}" if self.detail else "")

    def encoded(self, pixels: npt.NDArray[np.uint8], scale: float | None = None) -> str:
        """Base64 of the compressed picture.

        Args:
            pixels: RGB, ``[height, width, 3]``.
            scale: factor on each side, before the limit on the longer one.

        Raises:
            FramesError: scaled, it would be larger than any server takes.
        """
        from PIL import Image

        image = Image.fromarray(pixels)
        longer = max(image.size)
        wanted = longer * (1.0 if scale is None else scale)
        if self.max_side is not None:
            wanted = min(wanted, self.max_side)
        if wanted > max(longer, _LONGEST):
            raise FramesError(
                f"A frame is to be scaled by {scale:g}, to more than {_LONGEST} pixels.",
                "Bound it: answerer.frame.max_side=1024, or take a selection with smaller scales.",
            )
        if wanted != longer:
            width, height = (max(1, round(side * wanted / longer)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        if self.format == "jpeg":
            image.save(buffer, "JPEG", quality=self.quality)
        else:
            image.save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode("ascii")

    def image_part(self, encoded: str) -> Part:
        """An encoded picture, as an entry of a message."""
        url = {"url": f"data:image/{self.format};base64,{encoded}"}
        return {"type": "image_url", "image_url": url | ({"detail": self.detail} if self.detail else {})}


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """RGB pixels of a picture file, ``[height, width, 3]``.

    Raises:
        InputError: there is no such file, or it is not a picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"The picture {path} of an option cannot be read: {error}.", "Fetch or write it again."
        ) from error
