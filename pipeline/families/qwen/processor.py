"""Frames and words as inputs of one Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint.

Both sides of a frame become a multiple of 28 pixels (32 in Qwen3-VL), the area stays within limits, and the aspect is
kept: :class:`pipeline.families.pixels.FrameScale`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame
from pipeline.errors import CheckpointError
from pipeline.families.chat import check_placeholder, load_tokenizer, special_tokens
from pipeline.families.known import restore
from pipeline.families.labels import FrameLabels
from pipeline.families.loading.checkpoint import Checkpoint, context_tokens, model_type, raw_config, resolve
from pipeline.families.pixels import (
    MERGE,
    FrameScale,
    ScaledProcessor,
    check_patches,
    read_image_processor,
    stock_levels,
)
from pipeline.families.qwen import NAMES, NAMES_3
from pipeline.families.qwen.forms import IMAGE_PAD, VIDEO_PAD, ImagesForm, QwenForm
from pipeline.families.seam import Opened

PATCH = 14
PATCH_3 = 16
"""Of Qwen3-VL."""
UNIT = FrameScale.unit
"""Pixels along one side of the square that becomes one token."""
_PLACEHOLDER_KEYS = {IMAGE_PAD: ("image_token_id", 151655), VIDEO_PAD: ("video_token_id", 151656)}
"""And what an absent key means."""


class FrameScale3(FrameScale):
    """Of Qwen3-VL: both sides a multiple of 32."""

    unit: ClassVar[int] = PATCH_3 * MERGE


@dataclass(frozen=True)
class FrameSize:
    """For a sampler on Qwen2-VL or Qwen2.5-VL: the pixels of every frame, for any shape of the video."""

    height: int
    width: int

    def __post_init__(self) -> None:
        _ = self._scale

    @property
    def tokens(self) -> int:
        """One for each 28 x 28 pixels."""
        return self._scale.tokens(self.height, self.width)

    @property
    def smaller(self) -> str:
        """Overrides of the sampler by which a frame takes the fewest tokens that GenS was tried with."""
        return "sampler.frame.height=112 sampler.frame.width=112"

    def context_tokens(self, checkpoint: Checkpoint) -> int:
        """Positions for prompt and answer together, by ``config.json``.

        Raises:
            CheckpointError: it is another model, or does not say.
        """
        self.check(checkpoint)
        return context_tokens(checkpoint)

    def opened(self, checkpoint: Checkpoint) -> Opened[QwenProcessor]:
        """The family's two objects.

        Raises:
            CheckpointError: it is another model, or a file is missing.
        """
        from pipeline.families.qwen.model import load_qwen

        processor = open_processor(checkpoint, self._scale, ImagesForm(FrameLabels("", "")), None)
        return Opened(processor, lambda: load_qwen(checkpoint, processor))

    def check(self, checkpoint: Checkpoint) -> None:
        """Check by its ``config.json`` that a checkpoint takes frames of this form.

        Raises:
            CheckpointError: it is another model.
        """
        model_type(checkpoint, NAMES)

    @property
    def _scale(self) -> FrameScale:
        return FrameScale(UNIT**2, UNIT**2, (self.height, self.width))


@dataclass(frozen=True)
class QwenProcessor(ScaledProcessor[QwenForm]):
    """One checkpoint's inputs, in one form."""

    @property
    def markup(self) -> tuple[str, ...]:
        """The tokenizer's control tokens, pictures' placeholders among them."""
        return special_tokens(self.tokenizer)

    @property
    def placeholders(self) -> tuple[str, str]:
        """By the form."""
        shown = self.form.placeholder
        return shown, VIDEO_PAD if shown == IMAGE_PAD else IMAGE_PAD

    def describe(self, frames: Sequence[Frame]) -> str:
        """With the size of the first frame as the model sees it."""
        return f"{self.form.kind}{self.size_text(frames)}; time: {self.form.time_told(self.kind)}"


def open_processor(checkpoint: Checkpoint, scale: FrameScale, form: QwenForm, system: str | None) -> QwenProcessor:
    """Read a checkpoint's tokenizer and image settings; no weights.

    Raises:
        CheckpointError: it is another model, or a file is missing or does not go with the others.
    """
    is_third = isinstance(scale, FrameScale3)
    # Says what another model is, before its files are taken for a Qwen's.
    kind = model_type(checkpoint, NAMES_3 if is_third else NAMES)
    folder, context = resolve(checkpoint), context_tokens(checkpoint)
    tokenizer = load_tokenizer(folder)
    check_placeholders(checkpoint, tokenizer)
    levels = read_levels_3(folder) if is_third else stock_levels(load_image_processor(folder), folder)
    return QwenProcessor(tokenizer, context, form, kind, scale, levels, system)


def open_images(checkpoint: Checkpoint, max_pixels: int) -> Opened[QwenProcessor]:
    """For a sampler that shows one frame at a time, in its own shape, as an image.

    Raises:
        CheckpointError: a file is missing, or is another model's.
        ConfigError: ``max_pixels``, the largest area of a frame, is less than one token.
    """
    from pipeline.families.qwen.model import load_qwen

    scale = FrameScale.up_to(max_pixels)
    processor = open_processor(checkpoint, scale, ImagesForm(FrameLabels("", "")), None)
    return Opened(processor, lambda: load_qwen(checkpoint, processor))


def check_placeholders(checkpoint: Checkpoint, tokenizer: Any) -> None:
    """Check that ``config.json`` and tokenizer mean the same tokens where pictures stand.

    Raises:
        CheckpointError: they do not, and the model would find no picture in its prompt.
    """
    config = raw_config(checkpoint)
    for word, (key, released) in _PLACEHOLDER_KEYS.items():
        check_placeholder(tokenizer, word, key, config.get(key, released), checkpoint.source)


def load_image_processor(folder: Path, patch: int = PATCH) -> Any:
    """The checkpoint's image processor in its PIL form.

    Args:
        folder: the checkpoint's.
        patch: pixels along one side of a patch, as the family has it.

    Raises:
        CheckpointError: ``preprocessor_config.json`` is absent, or cuts other patches than this family does.
    """
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = read_image_processor(Qwen2VLImageProcessorPil, folder)
    check_patches(processor, patch, folder)
    for key in ("image_mean", "image_std"):
        values = getattr(processor, key)
        if not isinstance(values, list | tuple) or not all(isinstance(value, int | float) for value in values):
            raise CheckpointError(
                f"preprocessor_config.json in {folder} has {key}={values!r}.",
                restore("preprocessor_config.json of the checkpoint"),
            )
    return processor


def read_levels_3(folder: Path) -> npt.NDArray[np.float32]:
    """Normalised grey levels ``[3, 256]`` of Qwen3-VL, from -1 to 1.

    Raises:
        CheckpointError: ``preprocessor_config.json`` is absent, or is not of this model.
    """
    stock = load_image_processor(folder, PATCH_3)
    found = [list(stock.image_mean), list(stock.image_std)]
    if found != [[0.5] * 3] * 2:
        raise CheckpointError(
            f"The image processor in {folder} has image_mean and image_std {found}; those of Qwen3-VL are 0.5.",
            restore("preprocessor_config.json of the checkpoint"),
        )
    return stock_levels(stock, folder)
