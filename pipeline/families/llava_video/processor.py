"""Frames and words as inputs of one LLaVA-Video checkpoint.

The conversation is ``qwen_1_5`` with the video's tokens and the time instruction before the question. Source:
``conversation.py`` of github.com/LLaVA-VL/LLaVA-NeXT; the newline between the video and the instruction is that of the
training code and of lmms-eval's ``llava_vid``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.domain import Frame
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import VIDEO, load_tokenizer, special_tokens, text
from pipeline.families.known import restore
from pipeline.families.labels import TimeSentence
from pipeline.families.llava_video.config import (
    GRID,
    IMAGE_SIZE,
    Newlines,
    Pooling,
    context_tokens,
    frame_tokens,
    newlines_of,
    placeholder_id,
)
from pipeline.families.loading.checkpoint import Checkpoint, resolve
from pipeline.families.pixels import bicubic, fixed_size
from pipeline.families.seam import FrameShape, Pixels, Processor, Turn, Words

IMAGE = "<image>"
"""The authors' mark for the video in a prompt."""

_SYSTEM = "You are a helpful assistant."
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class VideoForm:
    """One video, and a sentence that tells its frames' seconds."""

    times: TimeSentence
    newlines: Newlines

    def turn(self, frames: Sequence[Frame], words: Words) -> Turn:
        """The video, the time instruction, the question."""
        told = self.times.before_question(frames, words.video_end)
        return Turn([VIDEO, text(f"\n{told}{words.in_one}")], words.system, words.begun)

    def pictures(self, shapes: Sequence[FrameShape], times: Sequence[float]) -> list[int]:
        """One, of all frames."""
        return [sum(shape.tokens for shape in shapes) + (self.newlines == "one_token")]

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        return self.times.time_told()

    def text_tokens(self) -> int:
        """The most tokens of a frame other than those of its pixels."""
        return self.times.text_tokens()


@dataclass(frozen=True)
class LlavaVideoProcessor(Processor[VideoForm]):
    """One checkpoint's inputs."""

    placeholder: int
    """The token id that stands for a place of the video."""
    pooling: Pooling

    @property
    def markup(self) -> tuple[str, ...]:
        """The authors' mark for the video, and the tokenizer's control tokens."""
        return (IMAGE, *special_tokens(self.tokenizer))

    @property
    def smaller(self) -> tuple[str, ...]:
        """Average pooling leaves 13 rows of 14."""
        return ("pooling=average",) if self.pooling == "bilinear" else ()

    @property
    def picture_token(self) -> int:
        """A row of the vocabulary that no text becomes."""
        return self.placeholder

    def shape(self, height: int, width: int, scale: float | None = None) -> FrameShape:
        """All frames have the vision tower's size."""
        fixed_size(scale, "LLaVA-Video")
        return FrameShape(IMAGE_SIZE, IMAGE_SIZE, GRID**2, frame_tokens(self.pooling, self.form.newlines))

    def resized(self, pixels: Pixels, shape: FrameShape) -> Pixels:
        """A square, its proportions given up.

        By Pillow's bicubic filter, which gives the pixels of the authors' ``SigLipImageProcessor``; torchvision's
        differs in single grey levels. The released repositories hold no image settings: these are the authors' code's.
        """
        return bicubic(pixels, shape)

    def describe(self, frames: Sequence[Frame]) -> str:
        """All frames have the vision tower's size."""
        return f"video of {IMAGE_SIZE} x {IMAGE_SIZE} pixels, {self.pooling} pooling; time: {self.form.time_told()}"

    def encode(self, turn: Turn, pictures: Sequence[int]) -> list[int]:
        """The texts before and after the video, which the authors' ``tokenizer_image_token`` reads apart."""
        if [part["type"] for part in turn.content] != ["video", "text"]:
            raise ConfigError(
                "LLaVA-Video is shown one video before the words, and this prompt has pictures between them.",
                "Take another checkpoint for it: `gens list samplers` and `gens list answerers` name them.",
            )
        before = f"<|im_start|>system\n{_SYSTEM if turn.system is None else turn.system}<|im_end|>\n<|im_start|>user\n"
        after = f"{turn.content[1]['text']}{_AFTER}{turn.begun}"
        first, last = (self.tokenizer(part, add_special_tokens=False).input_ids for part in (before, after))
        return [*first, *[self.placeholder] * pictures[0], *last]


def open_processor(
    checkpoint: Checkpoint, config: Mapping[str, Any], pooling: Pooling, times: TimeSentence
) -> LlavaVideoProcessor:
    """Read a checkpoint's tokenizer; no weights.

    Raises:
        CheckpointError: a file is missing, or the tokenizer leaves no row of the vocabulary for the video.
    """
    folder = resolve(checkpoint)
    tokenizer, placeholder = load_tokenizer(folder), placeholder_id(config)
    if len(tokenizer) > placeholder or tokenizer.convert_ids_to_tokens(placeholder) is not None:
        raise CheckpointError(
            f"The tokenizer in {folder} has {len(tokenizer)} tokens, and the vocabulary {placeholder + 1} rows: "
            "none is free to stand for the video.",
            restore("the tokenizer files of the checkpoint"),
        )
    form = VideoForm(times, newlines_of(config, checkpoint.source))
    return LlavaVideoProcessor(tokenizer, context_tokens(config), form, placeholder, pooling)
