"""How a model gets the times of its frames: by a text around each, or by one sentence about all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pipeline.domain import Frame
from pipeline.errors import ConfigError
from pipeline.families.chat import IMAGE, text
from pipeline.families.seam import Words

ORDER_ALONE = "not told: a video's frames in their order"
"""How a form that gives a video without times states the time."""

_LATE = 99999.9  # seconds; the longest label counts in the limits
_MANY = 9999
_LATEST = ",99999.99s"


@dataclass(frozen=True)
class FrameLabels:
    """The text around each frame that is shown as an image: true for any model and any spacing."""

    label: str
    """Text before an image; ``{time}`` is its second, as in ``{time:.1f}s: ``. Empty: no time is given."""
    after: str
    """Text after an image."""

    slots: ClassVar[str] = "Its only slot is {time}: \"answerer.images.label='{time:.1f}s: '\""

    def __post_init__(self) -> None:
        try:
            self.before(0.0)
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            problem = f"answerer.images.label={self.label!r} cannot be filled in: {error}."
            raise ConfigError(problem, self.slots) from error

    def before(self, time: float, number: int = 1) -> str:
        """The text before an image.

        Args:
            time: its second.
            number: its place among the frames, from 1.
        """
        return self.label.format(time=time)

    def time_told(self) -> str:
        """Text, or nothing."""
        if self.before(0.0) == self.before(_LATE):
            return "not told: images in their order"
        return f"text before each image: {self.before(12.5)!r}"

    def most_tokens(self) -> int:
        """The most tokens of a frame's label: a byte-level tokenizer makes at most one of each byte."""
        return len((self.before(_LATE, _MANY) + self.after).encode())


@dataclass(frozen=True)
class FrameLines(FrameLabels):
    """Labels that may also number the frames, ``{frame}`` from 1."""

    slots: ClassVar[str] = "Its slots are {frame} and {time}: \"answerer.images.label='Frame{frame} ({time:.1f}s): '\""

    def before(self, time: float, number: int = 1) -> str:
        """The text before the image of this number and second."""
        return self.label.format(frame=number, time=time)

    def time_told(self) -> str:
        """Text, or nothing."""
        told = super().time_told()
        return f"not told: {self.before(12.5)!r} before the first image" if told.startswith("not told") else told


def labelled_images(labels: FrameLabels, frames: Sequence[Frame], words: Words) -> list[Mapping[str, Any]]:
    """Content of a turn: for each frame the text before it, an image, and the text after it."""
    return [
        part
        for number, (before, frame) in enumerate(zip(words.before(frames), frames, strict=True), start=1)
        for part in (text(before + labels.before(frame.time, number)), IMAGE, text(labels.after))
    ]


TimeInstruction = Literal["official", "selected", "none"]

_SAMPLED: dict[TimeInstruction, str] = {"official": "uniformly sampled", "selected": "sampled"}


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
        """The sentence in a line of its own; empty where no times are given.

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
        """The most tokens of a frame other than those of its pixels: one for each byte."""
        return 0 if self.kind == "none" else len(_LATEST)
