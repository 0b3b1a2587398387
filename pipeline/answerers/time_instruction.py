"""The sentence that tells LLaVA's models when the frames of a video were, which are not told of it otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.answerers.labels import ORDER_ALONE
from pipeline.domain import Frame

TimeInstruction = Literal["official", "selected", "none"]

_SAMPLED: dict[TimeInstruction, str] = {"official": "uniformly sampled", "selected": "sampled"}
_LATEST = ",99999.99s"  # the longest time counts in the limits


@dataclass(frozen=True)
class TimeSentence:
    """The seconds of a video's frames in words, between the video and the question.

    ``official`` is the sentence of LLaVA-Video's training data and the paper's evaluation; it says that the frames are
    uniformly sampled, which a selection is not. ``selected`` is the same sentence without that word. ``none`` tells no
    times.

    Source: ``docs/LLaVA_Video_1003.md`` of github.com/LLaVA-VL/LLaVA-NeXT.
    """

    kind: TimeInstruction

    def before_question(self, frames: Sequence[Frame], video_end: float) -> str:
        """The sentence in a line of its own; empty where no times are told.

        Args:
            frames: in order of time.
            video_end: second at which the video's last frame leaves the screen.
        """
        if self.kind == "none":
            return ""
        # No space after the full stop: so it stands in the authors' code.
        return (
            f"The video lasts for {video_end:.2f} seconds, and {len(frames)} frames are "
            f"{_SAMPLED[self.kind]} from it. These frames are located at "
            f"{','.join(f'{frame.time:.2f}s' for frame in frames)}.Please answer the following questions related to "
            "this video.\n"
        )

    def time_told(self) -> str:
        """How the model learns when a frame was, in one line."""
        if self.kind == "none":
            return f"{ORDER_ALONE} (time_instruction=none)"
        words = f"frames are {_SAMPLED[self.kind]} ... located at 0.00s,12.50s"
        return f"text before the question: {words!r} (time_instruction={self.kind})"

    def text_tokens(self) -> int:
        """At most so many tokens go with a frame beside those of its pixels: one of a byte."""
        return 0 if self.kind == "none" else len(_LATEST)
