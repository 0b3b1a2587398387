"""Frames and words as inputs of one InternVL3 checkpoint.

A frame of a video is one tile of 448 x 448 pixels, whatever its shape, and 256 tokens. A lone image would be cut into
up to twelve tiles; a frame is shown as one of a video. Its own video is ``Frame1: `` and an image, a line for each
frame (``processing_internvl.py`` of transformers, and the model card): numbers and no times. The second is added to
this line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame
from pipeline.errors import CheckpointError
from pipeline.families.chat import (
    FrameLines,
    check_placeholder,
    expanded,
    labelled_images,
    load_tokenizer,
    render_chat,
    special_tokens,
    text,
)
from pipeline.families.internvl import NAMES
from pipeline.families.known import restore
from pipeline.families.loading.checkpoint import Checkpoint, context_tokens, model_type, raw_config, resolve
from pipeline.families.pixels import check_side, filter_of, fixed_size, read_image_processor, scaled, stock_levels
from pipeline.families.seam import FrameShape, Pixels, Processor, Turn, Words

IMAGE_CONTEXT = "<IMG_CONTEXT>"
IMAGE_START = "<img>"
IMAGE_END = "</img>"
_PLACEHOLDER_KEY, _RELEASED = "image_token_id", 151667
"""A key of ``config.json``, and what its absence means."""
_AROUND = 2  # an image's start and end
_IMAGENET = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]


@dataclass(frozen=True)
class InternVLShape:
    """What ``config.json`` says of a checkpoint."""

    context_tokens: int
    """Tokens that prompt and answer may have together."""
    side: int
    """Pixels of a frame's sides."""
    patch: int
    """Pixels of a patch's sides."""
    frame_tokens: int


def shape_of(checkpoint: Checkpoint) -> InternVLShape:
    """Read only from ``config.json``.

    Raises:
        CheckpointError: it is another model, and which; or a value is missing.
    """
    model_type(checkpoint, NAMES)
    config = raw_config(checkpoint)
    try:
        vision = config["vision_config"]
        side, patch = (_one(vision[key]) for key in ("image_size", "patch_size"))
        tokens = int((side // patch) ** 2 * config["downsample_ratio"] ** 2)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"config.json of {checkpoint.source} is not InternVL's: {error!r} is missing or no number.",
            restore("config.json of the checkpoint"),
        ) from error
    return InternVLShape(context_tokens(checkpoint), side, patch, tokens)


@dataclass(frozen=True)
class LinesForm:
    """A line with an image for each frame."""

    lines: FrameLines

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """The lines, then the words."""
        shown = labelled_images(self.lines, frames, words)
        return Turn([*shown, text(words.text)], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """256 each."""
        return [shape.tokens for shape in shapes]

    def text_tokens(self) -> int:
        """The line, and the marks around the image."""
        return self.lines.most_tokens() + _AROUND


@dataclass(frozen=True)
class InternVLProcessor(Processor[LinesForm]):
    """One checkpoint's inputs."""

    sizes: InternVLShape
    resample: int
    """Pillow's number of the filter that scales frames."""
    levels: npt.NDArray[np.float32]
    """``[3, 256]``: normalised grey levels."""
    system: str | None
    """The system turn; None leaves it to the checkpoint's chat template."""

    @property
    def markup(self) -> tuple[str, ...]:
        """The tokenizer's control tokens, and the marks of an image."""
        return tuple(sorted({*special_tokens(self.tokenizer), IMAGE_START, IMAGE_CONTEXT, IMAGE_END}))

    @property
    def smaller(self) -> tuple[str, ...]:
        """A frame has always the same number of tokens."""
        return ()

    @property
    def picture_token(self) -> int:
        """``<IMG_CONTEXT>``."""
        return int(self.tokenizer.convert_tokens_to_ids(IMAGE_CONTEXT))

    def shape(self, height: int, width: int, scale: float | None = None) -> FrameShape:
        """One tile."""
        fixed_size(scale, "InternVL3")
        sizes = self.sizes
        return FrameShape(sizes.side, sizes.side, (sizes.side // sizes.patch) ** 2, sizes.frame_tokens)

    def resized(self, pixels: Pixels, shape: FrameShape) -> Pixels:
        """To a square, its proportions given up."""
        return scaled(pixels, shape.height, shape.width, self.resample)

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames have the vision tower's size."""
        return f"images of {self.sizes.side} x {self.sizes.side} pixels; time: {self.form.lines.time_told()}"

    def encode(self, turn: Turn, pictures: Sequence[int]) -> list[int]:
        """Images are written into one text, with the marks around them."""
        image = f"{IMAGE_START}{IMAGE_CONTEXT}{IMAGE_END}"
        whole = "".join(image if part["type"] == "image" else part["text"] for part in turn.content)
        prompt = render_chat(self.tokenizer, [text(whole)], turn.system_or(self.system), turn.begun)
        return expanded(self.tokenizer, prompt, {IMAGE_CONTEXT: pictures})


def open_processor(checkpoint: Checkpoint, lines: FrameLines, system: str | None) -> InternVLProcessor:
    """Read a checkpoint's tokenizer and image settings; no weights.

    Raises:
        CheckpointError: it is another model, or a file is missing.
    """
    sizes = shape_of(checkpoint)  # says what another model is, before its files are taken for InternVL's
    folder = resolve(checkpoint)
    stock = _load_image_processor(folder, sizes)
    levels, resample = stock_levels(stock, folder), filter_of(stock, folder)
    tokenizer = load_tokenizer(folder)
    named = raw_config(checkpoint).get(_PLACEHOLDER_KEY, _RELEASED)
    check_placeholder(tokenizer, IMAGE_CONTEXT, _PLACEHOLDER_KEY, named, checkpoint.source)
    return InternVLProcessor(tokenizer, sizes.context_tokens, LinesForm(lines), sizes, resample, levels, system)


def _load_image_processor(folder: Path, found: InternVLShape) -> Any:
    """The checkpoint's image processor in its PIL form.

    Raises:
        CheckpointError: ``preprocessor_config.json`` is absent, or is not of this model.
    """
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    processor = read_image_processor(GotOcr2ImageProcessorPil, folder)
    check_side(processor, found.side, folder)
    stated = (processor.image_mean, processor.image_std)
    if [list(values) if isinstance(values, list | tuple) else values for values in stated] != _IMAGENET:
        raise CheckpointError(
            f"The image processor in {folder} does not have the image_mean of InternVL.",
            restore("preprocessor_config.json of the checkpoint"),
        )
    return processor


def _one(sides: Any) -> int:
    return int(sides[0] if isinstance(sides, list) else sides)
