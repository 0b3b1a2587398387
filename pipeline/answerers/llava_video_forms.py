"""The prompt around the frames of LLaVA-Video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.answerers.prompts import Words
from pipeline.answerers.time_instruction import TimeSentence
from pipeline.domain import Frame

IMAGE = "<image>"
"""The authors' mark for the video in a prompt."""

_SYSTEM = "You are a helpful assistant."
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class VideoForm:
    """The conversation ``qwen_1_5`` with the video's tokens and the time instruction before the question.

    Source: ``conversation.py`` of github.com/LLaVA-VL/LLaVA-NeXT; the newline between the video and the instruction is
    that of the training code and of lmms-eval's ``llava_vid``.
    """

    times: TimeSentence

    def before(self, words: Words) -> str:
        """The prompt up to the video."""
        return f"<|im_start|>system\n{words.system_or(_SYSTEM)}<|im_end|>\n<|im_start|>user\n"

    def after(self, frames: Sequence[Frame], words: Words) -> str:
        """The prompt behind the video, up to the point where the answer begins, or goes on.

        Args:
            frames: at least one.
            words: question, options and instruction.
        """
        told = self.times.before_question(frames, words.video_end)
        return f"\n{told}{words.in_one}{_AFTER}{words.begun}"

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        return self.times.time_told()

    def text_tokens(self) -> int:
        """At most so many tokens go with a frame beside those of its pixels."""
        return self.times.text_tokens()
