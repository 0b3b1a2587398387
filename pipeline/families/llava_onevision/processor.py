"""Frames and words as inputs of one LLaVA-OneVision checkpoint, as labelled images or as a video.

Written out instead of taken from ``LlavaOnevisionProcessor``, which needs torchvision. Tokens are the same. So are
pixels, but for those of a video: that processor scales them by torchvision, whose bicubic differs from Pillow's in
single grey levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import (
    VIDEO,
    FrameLabels,
    TimeSentence,
    check_placeholder,
    expanded,
    load_tokenizer,
    render_chat,
    special_tokens,
    text,
)
from pipeline.families.known import override, restore
from pipeline.families.llava_onevision import NAMES
from pipeline.families.loading.checkpoint import Checkpoint, model_type, raw_config, resolve, size
from pipeline.families.pixels import check_side, filter_of, fixed_size, read_image_processor, scaled, stock_levels
from pipeline.families.seam import FrameShape, Model, Opened, Pixels, Processor, Turn, Words

IMAGE_WORD, VIDEO_WORD = "<image>", "<video>"
"""The placeholders of pictures in text."""
Background = tuple[int, int, int]
"""Red, green and blue."""


@dataclass(frozen=True)
class Tower:
    """The picture side of a checkpoint."""

    image_size: int
    """Pixels of a side, to which every frame is scaled."""
    patch_size: int
    image_token_id: int
    video_token_id: int

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    @property
    def image_tokens(self) -> int:
        """Tokens of an image of base resolution, the newline after it among them: 730 at 384 pixels."""
        return self.grid**2 + 1

    def video_tokens(self, frames: int) -> int:
        """Tokens of a whole video: 196 a frame at 384 pixels, and one newline."""
        return frames * math.ceil(self.grid / 2) ** 2 + 1


def tower_of(checkpoint: Checkpoint) -> Tower:
    """The checkpoint's sizes and the tokens that stand for pictures.

    Raises:
        CheckpointError: it is another model, and which.
    """
    # Saved configurations leave out what is the class's default: SigLIP's size and patch, LLaVA's token ids.
    config = _config(checkpoint)
    vision: Mapping[str, Any] = config.get("vision_config") or {"image_size": 384, "patch_size": 14}
    return Tower(
        image_size=size(vision, "image_size", 224, checkpoint.source),
        patch_size=size(vision, "patch_size", 16, checkpoint.source),
        image_token_id=config.get("image_token_index", config.get("image_token_id", 151646)),
        video_token_id=config.get("video_token_index", config.get("video_token_id", 151647)),
    )


def context_tokens(checkpoint: Checkpoint) -> int:
    """Tokens that prompt and answer may have together.

    Raises:
        CheckpointError: it is another model, and which.
    """
    return size(_config(checkpoint).get("text_config") or {}, "max_position_embeddings", 32768, checkpoint.source)


class LlavaForm(Protocol):
    """How frames and their times are put to the model."""

    kind: ClassVar[str]
    """Its name in the settings."""
    smaller: ClassVar[tuple[str, ...]]
    """Settings by which a frame takes fewer tokens."""

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        ...

    def text_tokens(self) -> int:
        """The most tokens of a frame other than those of its pixels."""
        ...

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """The user's turn: frames, then ``words``."""
        ...

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """Tokens of each picture of the turn."""
        ...

    def placeholder_id(self, tower: Tower) -> int:
        """The token that stands for a picture."""
        ...

    def tokens(self, tower: Tower) -> int:
        """Tokens that each further frame takes."""
        ...

    def squared(self, pixels: Pixels, background: Background) -> Pixels:
        """A frame before it is scaled to the tower's size; ``background`` may surround it."""
        ...


@dataclass(frozen=True)
class ImagesForm:
    """Each frame is an image of its own with its second in text before it, as in the model's multi-image training.

    A frame is one patch of base resolution, padded to a square with the mean colour: ``grid**2`` tokens and one newline
    token. Transformers cuts a *lone* image into up to ten tiles ("anyres"); here it is treated like any other frame, so
    that a frame shows and costs the same at any place, and budgets can be compared.

    Source: Li et al. 2024, "LLaVA-OneVision: Easy Visual Task Transfer"; ``LlavaOnevisionModel.pack_image_features``
    and ``LlavaOnevisionImageProcessor`` of transformers.
    """

    labels: FrameLabels

    kind: ClassVar[str] = "images"
    smaller: ClassVar[tuple[str, ...]] = ("form=video",)

    def time_told(self) -> str:
        """Text, or nothing."""
        return self.labels.time_told()

    def text_tokens(self) -> int:
        """The label."""
        return self.labels.most_tokens()

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """One piece of text with the placeholders in it.

        The chat template of these checkpoints moves pictures that are pieces of their own to the front, away from
        their labels.
        """
        shown = (
            f"{said}{self.labels.before(frame.time)}{IMAGE_WORD}{self.labels.after}"
            for said, frame in zip(words.before(frames), frames, strict=True)
        )
        return Turn([text("".join(shown) + words.text)], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """730 for each frame at 384 pixels."""
        return [shape.tokens for shape in shapes]

    def placeholder_id(self, tower: Tower) -> int:
        """``<image>``."""
        return tower.image_token_id

    def tokens(self, tower: Tower) -> int:
        """Tokens of one image."""
        return tower.image_tokens

    def squared(self, pixels: Pixels, background: Background) -> Pixels:
        """Padded with the mean colour."""
        height, width = pixels.shape[:2]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        padded = np.empty((side, side, 3), dtype=np.uint8)
        padded[:] = background
        padded[top : top + height, left : left + width] = pixels
        return padded


@dataclass(frozen=True)
class VideoForm:
    """The frames are a video, and a sentence before the question tells their seconds.

    Without it they are evenly spaced for all that the model knows, as its authors' prompts leave them. The sentence is
    that of LLaVA-Video, which began as this model.

    Each of any shape is scaled to a square, its patches are pooled to ``ceil(grid / 2)**2`` tokens (196 at 384
    pixels), and one newline token ends the video.

    Source: as :class:`ImagesForm`; ``LlavaOnevisionModel.apply_pooling``.
    """

    times: TimeSentence

    kind: ClassVar[str] = "video"
    smaller: ClassVar[tuple[str, ...]] = ()

    def time_told(self) -> str:
        """Text, or nothing."""
        return self.times.time_told()

    def text_tokens(self) -> int:
        """Its second in the sentence."""
        return self.times.text_tokens()

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """One video before the words."""
        told = self.times.before_question(frames, words.video_end)
        return Turn([VIDEO, text(told + words.in_one)], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """One picture of all frames, with one newline."""
        return [sum(shape.tokens for shape in shapes) + 1]

    def placeholder_id(self, tower: Tower) -> int:
        """``<video>``."""
        return tower.video_token_id

    def tokens(self, tower: Tower) -> int:
        """Pooled."""
        return tower.video_tokens(1) - 1

    def squared(self, pixels: Pixels, background: Background) -> Pixels:
        """As it is: scaling gives its proportions up."""
        return pixels


@dataclass(frozen=True)
class LlavaProcessor(Processor[LlavaForm]):
    """One checkpoint's inputs, in one form."""

    tower: Tower
    background: Background
    """The mean colour of ``preprocessor_config.json``."""
    resample: int
    """Pillow's number of the filter that scales frames. Pillow gives the pixels that the authors' code gives."""
    levels: npt.NDArray[np.float32]
    """``[3, 256]``: normalised grey levels."""

    @property
    def markup(self) -> tuple[str, ...]:
        """The placeholders of pictures, and the tokenizer's control tokens."""
        return (IMAGE_WORD, VIDEO_WORD, *special_tokens(self.tokenizer))

    @property
    def smaller(self) -> tuple[str, ...]:
        """A frame of a video takes a quarter of an image's tokens."""
        return self.form.smaller

    @property
    def picture_token(self) -> int:
        """The id of the form's placeholder."""
        return self.form.placeholder_id(self.tower)

    def shape(self, height: int, width: int, scale: float | None = None) -> FrameShape:
        """All frames have the vision tower's size."""
        fixed_size(scale, "LLaVA-OneVision")
        side = self.tower.image_size
        return FrameShape(side, side, self.tower.grid**2, self.form.tokens(self.tower))

    def resized(self, pixels: Pixels, shape: FrameShape) -> Pixels:
        """Made a square as the form has it, and scaled."""
        return scaled(self.form.squared(pixels, self.background), shape.height, shape.width, self.resample)

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames have the vision tower's size."""
        side = self.tower.image_size
        return f"{self.form.kind} of {side} x {side} pixels; time: {self.form.time_told()}"

    def encode(self, turn: Turn, pictures: Sequence[int]) -> list[int]:
        """Each placeholder as often as its picture has tokens."""
        prompt = render_chat(self.tokenizer, turn.content, turn.system, turn.begun)
        shown, other = (IMAGE_WORD, VIDEO_WORD) if self.form.kind == "images" else (VIDEO_WORD, IMAGE_WORD)
        return expanded(self.tokenizer, prompt, {shown: pictures, other: []})


def open_processor(checkpoint: Checkpoint, form: LlavaForm) -> LlavaProcessor:
    """Read a checkpoint's tokenizer and image settings; no weights.

    Raises:
        CheckpointError: it is another model, a file is missing, or its settings are not those of the model.
    """
    tower = tower_of(checkpoint)  # says what another model is, before its files are taken for a LLaVA's
    folder, context = resolve(checkpoint), context_tokens(checkpoint)
    stock = _load_image_processor(folder, tower)
    levels, resample = stock_levels(stock, folder), filter_of(stock, folder)
    background = _mean_colour(stock, folder)
    return LlavaProcessor(_open_tokenizer(folder, tower), context, form, tower, background, resample, levels)


def open_images(checkpoint: Checkpoint, max_pixels: int) -> Opened[LlavaProcessor]:
    """For a sampler that shows one frame at a time as an image.

    Raises:
        CheckpointError: a file is missing, or its settings are not those of the model.
        ConfigError: ``max_pixels``, the largest area of a frame, is less than the one size that there is.
    """
    tower = tower_of(checkpoint)
    if max_pixels < tower.image_size**2:
        raise ConfigError(
            f"max_pixels={max_pixels} cannot be kept: {checkpoint.source} takes frames of {tower.image_size} x "
            f"{tower.image_size} pixels and no others.",
            f"Allow that: sampler.max_pixels={tower.image_size**2}.",
        )
    return open_checkpoint(checkpoint, ImagesForm(FrameLabels("", "")))


def open_checkpoint(checkpoint: Checkpoint, form: LlavaForm) -> Opened[LlavaProcessor]:
    """The family's two objects.

    Raises:
        CheckpointError: as :func:`open_processor`.
    """
    processor = open_processor(checkpoint, form)

    def load() -> Model:
        from pipeline.families.llava_onevision.model import load_llava_onevision

        return load_llava_onevision(checkpoint, processor)

    return Opened(processor, load)


def _load_image_processor(folder: Path, tower: Tower) -> Any:
    """The checkpoint's ``LlavaOnevisionImageProcessorPil``.

    Raises:
        CheckpointError: ``preprocessor_config.json`` is absent, or scales to another size than the tower takes.
    """
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    processor = read_image_processor(LlavaOnevisionImageProcessorPil, folder)
    check_side(processor, tower.image_size, folder)
    return processor


def _mean_colour(stock: Any, folder: Path) -> Background:
    """The mean colour of the image processor, as its ``pad_to_square`` gets it.

    Raises:
        CheckpointError: it is none.
    """
    red, green, blue = (int(mean * 255) for mean in np.broadcast_to(stock.image_mean, 3).tolist())
    colour = (red, green, blue)
    if not all(0 <= level <= 255 for level in colour):
        raise CheckpointError(
            f"The image settings in {folder} cannot be used: image_mean is {stock.image_mean}.",
            restore("preprocessor_config.json of the checkpoint"),
        )
    return colour


def _open_tokenizer(folder: Path, tower: Tower) -> Any:
    """The checkpoint's tokenizer, which knows the placeholders of pictures.

    Raises:
        CheckpointError: there is none, or it lacks one of them.
    """
    tokenizer = load_tokenizer(folder)
    for key, word, named in (
        ("image_token_index", IMAGE_WORD, tower.image_token_id),
        ("video_token_index", VIDEO_WORD, tower.video_token_id),
    ):
        check_placeholder(tokenizer, word, key, named, str(folder))
    return tokenizer


def _config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    model_type(checkpoint, NAMES)
    config = raw_config(checkpoint)
    features = config.get("vision_feature_select_strategy", "full")
    if features != "full":
        raise CheckpointError(
            f"{checkpoint.source} selects {features!r} features of the vision tower, and LLaVA-OneVision all.",
            f"Name another checkpoint: {override('source', 'llava-hf/llava-onevision-qwen2-7b-ov-hf')}.",
        )
    return config
