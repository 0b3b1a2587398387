"""What LLaVA-Video is told of the time of its frames, and the prompt around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from pipeline.answerers import AnswerRequest
from pipeline.answerers.labels import ORDER_ALONE
from pipeline.answerers.prompts import Words
from pipeline.domain import Frame

TimeInstruction = Literal["official", "selected", "none"]

IMAGE = "<image>"
"""The authors' mark for the video in a prompt."""

_SYSTEM = "You are a helpful assistant."
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"
_SAMPLED: dict[TimeInstruction, str] = {"official": "uniformly sampled", "selected": "sampled"}
_LATEST = ",99999.99s"  # the longest time counts in the limits


@dataclass(frozen=True)
class VideoFrame(Frame):
    """A frame that knows when its video ends, which the time instruction tells."""

    video_end: float
    """Second at which the video's last frame leaves the screen."""


def frames_of_video(request: AnswerRequest) -> tuple[VideoFrame, ...]:
    """The request's frames."""
    end = request.video.duration
    return tuple(
        VideoFrame(**{field.name: getattr(frame, field.name) for field in fields(Frame)}, video_end=end)
        for frame in request.frames
    )


@dataclass(frozen=True)
class VideoForm:
    """The conversation ``qwen_1_5`` with the video's tokens and the time instruction before the question.

    ``official`` is the sentence of the training data and the paper's evaluation; it says that the frames are uniformly
    sampled, which a selection is not. ``selected`` is the same sentence without that word. ``none`` tells no times.

    Source: ``conversation.py`` and ``docs/LLaVA_Video_1003.md`` of github.com/LLaVA-VL/LLaVA-NeXT; the newline between
    the video and the instruction is that of the training code and of lmms-eval's ``llava_vid``.
    """

    time_instruction: TimeInstruction

    def before(self, words: Words) -> str:
        """The prompt up to the video."""
        return f"<|im_start|>system\n{words.system_or(_SYSTEM)}<|im_end|>\n<|im_start|>user\n"

    def after(self, frames: Sequence[Frame], words: Words) -> str:
        """The prompt behind the video, up to the point where the answer begins, or goes on.

        Args:
            frames: of :func:`frames_of_video`, at least one.
            words: question, options and instruction.
        """
        told = "" if self.time_instruction == "none" else f"{self._instruction(frames)}\n"
        return f"\n{told}{words.in_one}{_AFTER}{words.begun}"

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        if self.time_instruction == "none":
            return f"{ORDER_ALONE} (time_instruction=none)"
        words = f"frames are {_SAMPLED[self.time_instruction]} ... located at 0.00s,12.50s"
        return f"text before the question: {words!r} (time_instruction={self.time_instruction})"

    def text_tokens(self) -> int:
        """At most so many tokens go with a frame beside those of its pixels: one of a byte."""
        return 0 if self.time_instruction == "none" else len(_LATEST)

    def _instruction(self, frames: Sequence[Frame]) -> str:
        last = frames[-1]
        assert isinstance(last, VideoFrame)
        # No space after the full stop: so it stands in the authors' code.
        return (
            f"The video lasts for {last.video_end:.2f} seconds, and {len(frames)} frames are "
            f"{_SAMPLED[self.time_instruction]} from it. These frames are located at "
            f"{','.join(f'{frame.time:.2f}s' for frame in frames)}.Please answer the following questions related to "
            "this video."
        )
