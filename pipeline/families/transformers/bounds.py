"""What keeps the tokens of a frame in bounds: a longest side of ours, and the keywords of the types' own processors.

No keyword is common to all processors, and one that a processor does not know is ignored with a line in a log. So every
keyword is tried on a frame before the run, and refused where it changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

USUAL_SIZE = (720, 1280)
"""Height and width of the frame by which limits are told before a video is known."""

_CROPS: Mapping[str, Any] = MappingProxyType({"crop_to_patches": False})
_SPLITS: Mapping[str, Any] = MappingProxyType({"do_image_splitting": False})
_SLICES: Mapping[str, Any] = MappingProxyType({"max_slice_nums": 1})
_ONE_TILE: Mapping[str, Mapping[str, Any]] = {
    "cohere2_vision": _CROPS,
    "idefics3": _SPLITS,
    "internvl": _CROPS,
    "lfm2_vl": _SPLITS,
    "llama4": {"max_patches": 1},
    "minicpmv4_6": _SLICES,
    "minicpmv4_7": _SLICES,
    "molmo2": {"max_crops": 1},
    "ovis2": _CROPS,
    "smolvlm": _SPLITS,
}
"""By model type, the keywords with which a picture is one tile. Source: the image processors of transformers 5.24."""

_KNOWN = (
    *("max_soft_tokens", "max_image_tokens", "max_image_size", "max_tiles", "max_patches", "max_slice_nums"),
    *("max_crops", "crop_to_patches", "do_image_splitting", "max_pixels", "size"),
)
"""Keywords by which one processor or another bounds a picture's tokens."""


@dataclass(frozen=True)
class FrameBounds:
    """How large a frame may be when it comes to the processor, and how many tokens it may take."""

    max_side: int | None
    """Pixels of the longer side; larger frames are scaled down. None leaves frames as they are. It does nothing in
    types that scale all pictures to one size, where the number of tokens is a constant anyway."""
    tiles: Literal["one", "checkpoint"]
    """``one``: a frame is one picture also in types that cut large ones into tiles; ``checkpoint``: as published."""
    max_tokens: int
    """A frame that takes more is refused before the run."""

    def __post_init__(self) -> None:
        for name, least in (("max_side", 28), ("max_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(
                    f"answerer.frame.{name}={value} leaves nothing of a frame.",
                    f"Set {least} or more: answerer.frame.{name}={768 if name == 'max_side' else 1280}",
                )

    def size(self, height: int, width: int, scale: float | None = None) -> tuple[int, int]:
        """Height and width of a frame as the processor gets it; ``scale`` is the frame's own factor on each side."""
        if scale is not None:
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
        longest = max(height, width)
        if self.max_side is None or longest <= self.max_side:
            return height, width
        ratio = self.max_side / longest
        return max(1, round(height * ratio)), max(1, round(width * ratio))

    def scaled(self, image: Image.Image, scale: float | None = None) -> Image.Image:
        """The frame as the processor gets it."""
        from PIL import Image

        height, width = self.size(image.height, image.width, scale)
        if (height, width) == (image.height, image.width):
            return image
        return image.resize((width, height), Image.Resampling.BICUBIC)

    def keywords(self, model_type: str) -> Mapping[str, Any]:
        """What the processor is given so that it makes no tiles."""
        return _ONE_TILE.get(model_type, {}) if self.tiles == "one" else {}

    def describe(self, model_type: str) -> str:
        """The bounds in a few words."""
        side = "at their own size" if self.max_side is None else f"of {self.max_side} pixels a side at most"
        tiles = ", one tile each" if self.keywords(model_type) else ""
        return f"images {side}{tiles}"

    def smaller(self, model_type: str) -> tuple[str, ...]:
        """Settings with which a frame may take fewer tokens."""
        half = max(28, (self.max_side or max(USUAL_SIZE)) // 2)
        whole = ("frame.tiles=one",) if self.tiles != "one" and model_type in _ONE_TILE else ()
        return (*whole, f"frame.max_side={half}")


def own_keywords(processor: Any) -> tuple[str, ...]:
    """The keywords of a processor that bound a picture's tokens, as far as its image processor has them."""
    images = getattr(processor, "image_processor", None)
    known = set(getattr(getattr(images, "valid_kwargs", None), "__annotations__", {})) | set(vars(images or object))
    return tuple(name for name in _KNOWN if name in known)


def check_acts(
    name: str, value: Any, made: Mapping[str, Any], plain: Mapping[str, Any], own: Sequence[str], source: str
) -> None:
    """Check that a keyword does something.

    Args:
        name: of the keyword.
        value: as it is set.
        made: what the processor gives with it.
        plain: what it gives without, for the same pictures.
        own: keywords that bound its tokens.
        source: of the checkpoint, for messages.

    Raises:
        ConfigError: the two are equal.
    """
    if _equal(made, plain):
        raise ConfigError(
            f"answerer.processor_kwargs.{name}={value!r} changes nothing: the processor of {source} does not know it, "
            "or has it so already.",
            f"Leave it out: ~answerer.processor_kwargs.{name}; keywords that bound its tokens: "
            f"{', '.join(own) or 'none'}",
        )


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    import numpy as np
    import torch

    def same(left: Any, right: Any) -> bool:
        if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
            return left.shape == right.shape and torch.equal(left, right)
        return bool(np.array_equal(np.asarray(left, dtype=object), np.asarray(right, dtype=object)))

    return set(one) == set(other) and all(same(value, other[name]) for name, value in one.items())
