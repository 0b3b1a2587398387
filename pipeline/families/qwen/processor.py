"""Frames and words as inputs of one Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint.

Both sides of a frame become a multiple of 28 pixels (32 in Qwen3-VL), the area stays within limits, and the aspect is
kept: :class:`pipeline.families.pixels.FrameScale`. Selected frames are labelled images, or a video at its true times.

The stock video processors take frames as evenly spaced unless told otherwise in three places, and blend two frames into
each temporal grid however far apart they are. So a video is put together here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError, FramesError
from pipeline.families.chat import (
    ORDER_ALONE,
    VIDEO,
    FrameLabels,
    check_placeholder,
    labelled_images,
    load_tokenizer,
    special_tokens,
    text,
)
from pipeline.families.known import restore
from pipeline.families.loading.checkpoint import Checkpoint, context_tokens, model_type, raw_config, resolve
from pipeline.families.pixels import (
    MERGE,
    FrameScale,
    ScaledProcessor,
    check_patches,
    read_image_processor,
    stock_levels,
)
from pipeline.families.qwen import NAMES, NAMES_3, QWEN2_5_VL
from pipeline.families.seam import FrameShape, Opened, Turn, Words

IMAGE_PAD = "<|image_pad|>"
_VIDEO_PAD = "<|video_pad|>"
_VISION_START = "<|vision_start|>"
_VISION_END = "<|vision_end|>"
_AROUND = 2  # vision_start and vision_end
_LATE = 99999.9  # seconds; the longest time text counts in the limits
_PATCH = 14
_PATCH_3 = 16
"""The side of a patch of Qwen3-VL."""
_UNIT = FrameScale.unit
"""Pixels along one side of the square that becomes one token."""
_PLACEHOLDER_KEYS = {IMAGE_PAD: ("image_token_id", 151655), _VIDEO_PAD: ("video_token_id", 151656)}
"""Keys of ``config.json``, and what an absent key means."""


class QwenForm(Protocol):
    """How frames and their times are put to the model."""

    kind: ClassVar[str]
    """Its name in the settings."""
    placeholder: ClassVar[str]
    """The token that the chat template writes for a picture."""

    def time_told(self, model_type: str) -> str:
        """How the model learns when a frame was, in one line."""
        ...

    def text_tokens(self) -> int:
        """The most tokens of a frame other than those of its pixels."""
        ...

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """The user's turn: the frames in order of time, then the words."""
        ...

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """Tokens of each picture of the turn.

        Raises:
            FramesError: these frames cannot be put in this form.
        """
        ...

    def grids(self, times: Sequence[float]) -> Grids | None:
        """The temporal grids of a video; None where every frame is an image."""
        ...


@dataclass(frozen=True)
class Grids:
    """How frames are put into temporal grids."""

    pairs: tuple[tuple[int, int], ...]
    """The two frames of each grid; ``(i, i)`` for a frame by itself."""
    times: tuple[float, ...]
    """Seconds of the grids, where position ids tell them; else empty."""
    is_one_video: bool
    """Whether all grids are one video; else each is a video by itself."""


@dataclass(frozen=True)
class ImagesForm:
    """Every frame an image, with its second in text before it."""

    labels: FrameLabels

    kind: ClassVar[str] = "images"
    placeholder: ClassVar[str] = IMAGE_PAD

    def time_told(self, model_type: str) -> str:
        """Whatever the model: text, or nothing."""
        return self.labels.time_told()

    def text_tokens(self) -> int:
        """The label, and the marks around the image."""
        return self.labels.most_tokens() + _AROUND

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """A label, an image and what follows it, for each frame."""
        shown = labelled_images(self.labels, frames, words)
        return Turn([*shown, text(words.text)], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """Frames may differ in size."""
        return [shape.tokens for shape in shapes]

    def grids(self, times: Sequence[float]) -> Grids | None:
        """No video."""
        return None


@dataclass(frozen=True)
class VideoForm:
    """One video; two frames close in time share a temporal grid, a frame by itself fills one alone.

    Qwen2.5-VL encodes each grid's position in time, and is given the true one. Qwen2-VL knows the order only.
    """

    pair_within: float
    """Seconds. Frames further apart than this are not blended; 0 gives every frame its own grid."""

    kind: ClassVar[str] = "video"
    placeholder: ClassVar[str] = _VIDEO_PAD

    def __post_init__(self) -> None:
        if self.pair_within < 0:
            raise ConfigError(
                f"answerer.video.pair_within={self.pair_within} is not a span of time.",
                "Take 0 or more seconds: answerer.video.pair_within=0",
            )

    def time_told(self, model_type: str) -> str:
        """Depends on what the model encodes."""
        return "position ids at the true second of each temporal grid" if model_type == QWEN2_5_VL else ORDER_ALONE

    def text_tokens(self) -> int:
        """The marks around the one video."""
        return _AROUND

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """One video before the words."""
        return Turn([VIDEO, text(words.in_one)], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """One number, of all grids together; frames must come out at one size."""
        return [len(self.pairs(times)) * _one_shape(shapes).tokens]

    def grids(self, times: Sequence[float]) -> Grids:
        """With the second of each grid's first frame."""
        pairs = self.pairs(times)
        return Grids(tuple(pairs), tuple(times[first] for first, _ in pairs), is_one_video=True)

    def pairs(self, times: Sequence[float]) -> list[tuple[int, int]]:
        """The two frames of each temporal grid, from the ascending times; ``(i, i)`` for a frame by itself."""
        found: list[tuple[int, int]] = []
        place = 0
        while place < len(times):
            partner = place + 1
            if partner < len(times) and 0 < times[partner] - times[place] <= self.pair_within:
                found.append((place, partner))
                place += 2
            else:
                found.append((place, place))
                place += 1
        return found


@dataclass(frozen=True)
class TimedVideoForm(VideoForm):
    """The video form of Qwen3-VL: the second stands in text before each temporal grid, as in its training.

    The time of two frames in one grid is their mean.

    Sources: "Qwen3-VL Technical Report", arXiv 2511.21631 (text-based time alignment), and ``processing_qwen3_vl.py``
    of transformers 4.57, with which the checkpoints were released. It put ``<5.0 seconds>`` and vision marks around
    each grid in place of the marks that the chat template writes around the video. Since 5.10 these are left, around
    everything.
    """

    wrapper: Literal["strip", "keep"]
    """Vision marks around the whole video: ``strip`` as at release, ``keep`` as transformers since 5.10."""

    def time_told(self, model_type: str) -> str:
        """The same for all checkpoints."""
        return f"text before each temporal grid: {_time_text(12.5)!r}"

    def text_tokens(self) -> int:
        """The time and the marks around a grid; a byte-level tokenizer makes no more than one token of a byte."""
        return len(_time_text(_LATE).encode()) + super().text_tokens()

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """Every grid a video for the chat template, which puts the marks around each."""
        times = [frame.time for frame in frames]
        grids = [part for pair in self.pairs(times) for part in (text(_time_text(_mean(times, pair))), VIDEO)]
        if self.wrapper == "keep":
            grids = [text(_VISION_START), *grids, text(_VISION_END)]
        return Turn([*grids, text(words.in_one)], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """Tokens of each grid; frames must come out at one size."""
        return [_one_shape(shapes).tokens] * len(self.pairs(times))

    def grids(self, times: Sequence[float]) -> Grids:
        """To the model each grid is a video by itself."""
        return Grids(tuple(self.pairs(times)), (), is_one_video=False)


def _one_shape(shapes: Sequence[FrameShape]) -> FrameShape:
    if len({(shape.height, shape.width) for shape in shapes}) > 1:
        unit = math.isqrt(shapes[0].height * shapes[0].width // shapes[0].tokens)
        raise FramesError(
            "The frames differ in size, so they cannot be one video.",
            f"Take answerer.form=images, or give all frames one shape: answerer.frame_size=[{9 * unit},{16 * unit}].",
        )
    return shapes[0]


def _time_text(seconds: float) -> str:
    return f"<{seconds:.1f} seconds>"


def _mean(times: Sequence[float], pair: tuple[int, int]) -> float:
    return (times[pair[0]] + times[pair[1]]) / 2


class FrameScale3(FrameScale):
    """The resize rule of Qwen3-VL: both sides are a multiple of 32."""

    unit: ClassVar[int] = _PATCH_3 * MERGE


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
        return FrameScale(_UNIT**2, _UNIT**2, (self.height, self.width))


@dataclass(frozen=True)
class QwenProcessor(ScaledProcessor[QwenForm]):
    """One checkpoint's inputs, in one form."""

    @property
    def markup(self) -> tuple[str, ...]:
        """The tokenizer's control tokens, pictures' placeholders among them."""
        return special_tokens(self.tokenizer)

    @property
    def placeholders(self) -> tuple[str, str]:
        """As the form says."""
        shown = self.form.placeholder
        return shown, _VIDEO_PAD if shown == IMAGE_PAD else IMAGE_PAD

    def shown_together(self, times: Sequence[float], pictures: int) -> list[range]:
        """Where each temporal grid is a picture, its frames."""
        grids = self.form.grids(times)
        if grids is None or grids.is_one_video:
            return super().shown_together(times, pictures)
        return [range(first, last + 1) for first, last in grids.pairs]

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


def load_image_processor(folder: Path, patch: int = _PATCH) -> Any:
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
    stock = load_image_processor(folder, _PATCH_3)
    found = [list(stock.image_mean), list(stock.image_std)]
    if found != [[0.5] * 3] * 2:
        raise CheckpointError(
            f"The image processor in {folder} has image_mean and image_std {found}; those of Qwen3-VL are 0.5.",
            restore("preprocessor_config.json of the checkpoint"),
        )
    return stock_levels(stock, folder)
