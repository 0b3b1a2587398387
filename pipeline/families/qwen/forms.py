"""The forms in which Qwen models take selected frames: labelled images, or a video at its true times.

The stock video processors take frames as evenly spaced unless told otherwise in three places, and blend two frames into
each temporal grid however far apart they are. So a video is put together here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from pipeline.domain import Frame
from pipeline.errors import ConfigError, FramesError
from pipeline.families.chat import VIDEO, text
from pipeline.families.labels import ORDER_ALONE, FrameLabels, labelled_images
from pipeline.families.qwen import QWEN2_5_VL
from pipeline.families.seam import FrameShape, Turn, Words

IMAGE_PAD = "<|image_pad|>"
VIDEO_PAD = "<|video_pad|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
_AROUND = 2  # vision_start and vision_end
_LATE = 99999.9  # seconds; the longest time text counts in the limits


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
    placeholder: ClassVar[str] = VIDEO_PAD

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
            grids = [text(VISION_START), *grids, text(VISION_END)]
        return Turn([*grids, text(words.in_one)], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """Of each grid; frames must come out at one size."""
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
