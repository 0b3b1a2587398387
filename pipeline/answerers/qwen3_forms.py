"""The video form of Qwen3-VL: the second stands in text before each temporal grid, as in its training.

Sources: "Qwen3-VL Technical Report", arXiv 2511.21631 (text-based time alignment), and ``processing_qwen3_vl.py`` of
transformers 4.57, with which the checkpoints were released. It put ``<5.0 seconds>`` and vision marks around each grid
in place of the marks that the chat template writes around the video. Since 5.10 these are left, around everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.answerers.prompts import Words
from pipeline.answerers.qwen_forms import VideoForm
from pipeline.domain import Frame
from pipeline.models.chat import VIDEO, Content, text
from pipeline.models.qwen3_family import VISION_END, VISION_START
from pipeline.models.qwen_pixels import FrameScale, Patches

if TYPE_CHECKING:
    from pipeline.models.qwen_inputs import QwenInputs

_LATE = 99999.9  # seconds; the longest time text counts in the limits


@dataclass(frozen=True)
class TimedVideoForm(VideoForm):
    """One video whose temporal grids are told by their seconds; the time of two frames in one grid is their mean."""

    wrapper: Literal["strip", "keep"]
    """Vision marks around the whole video: ``strip`` as at release, ``keep`` as transformers since 5.10."""

    def time_told(self, family: str) -> str:
        """The same for all checkpoints."""
        return f"text before each temporal grid: {_time_text(12.5)!r}"

    def text_tokens(self) -> int:
        """The time and the marks around a grid; a byte-level tokenizer makes no more than one token of a byte."""
        return len(_time_text(_LATE).encode()) + super().text_tokens()

    def content(self, frames: Sequence[Frame], words: Words) -> Content:
        """Every grid a video for the chat template, which puts the marks around each."""
        times = [frame.time for frame in frames]
        grids = [part for pair in self.pairs(times) for part in (text(_time_text(_mean(times, pair))), VIDEO)]
        if self.wrapper == "keep":
            grids = [text(VISION_START), *grids, text(VISION_END)]
        return [*grids, text(words.in_one)]

    def counts(self, scale: FrameScale, frames: Sequence[Frame]) -> list[int]:
        """Of each grid; frames must come out at one size."""
        [total] = super().counts(scale, frames)
        grids = len(self.pairs([frame.time for frame in frames]))
        return [total // grids] * grids

    def pixels(self, images: Patches, times: Sequence[float]) -> Patches:
        """See :class:`pipeline.answerers.qwen_forms.QwenForm`. To the model each grid is a video of its own."""
        video = super().pixels(images, times)
        alone = video.grids.repeat(len(self.pairs(times)), 1)
        alone[:, 0] = 1
        return Patches(video.values, alone)

    def inputs(self, tokenizer: Any, prompt: str, pixels: Patches, times: Sequence[float]) -> QwenInputs:
        """See :class:`pipeline.answerers.qwen_forms.QwenForm`."""
        from pipeline.models.qwen_inputs import encode

        return encode(tokenizer, prompt, video=pixels)


def _time_text(seconds: float) -> str:
    return f"<{seconds:.1f} seconds>"


def _mean(times: Sequence[float], pair: tuple[int, int]) -> float:
    return (times[pair[0]] + times[pair[1]]) / 2
