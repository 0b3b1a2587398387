"""What a window's frames and a question are turned into: the prompt of GenS.

Source: ``inference.py`` of the GenS authors (arXiv 2503.09146): ``[i]`` and the image for every frame of the window, a
newline after each, then the question, then the instruction. The prompt of the 3B checkpoint is not published, so every
part of it is a setting; the values lie in the samplers' YAML files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError
from pipeline.families.chat import IMAGE, text
from pipeline.families.seam import Turn

_NUMBER = "{number}"
_QUESTION = "{question}"


@dataclass(frozen=True)
class FramePrompt:
    """The words around the frames. Frames come first and the question last, so that questions can share the frames."""

    label: str
    """Before each image; ``{number}`` is the frame's number in its window."""
    first_number: int
    """Number of the first frame of every window."""
    after_image: str
    question: str
    """``{question}`` is the question."""
    instruction: str

    def __post_init__(self) -> None:
        if _NUMBER not in self.label:
            raise ConfigError(
                f"The frame label {self.label!r} has no {_NUMBER}, so the model could not name a frame.",
                f"Put it in, for instance sampler.prompt.label='\"[{_NUMBER}]\"'.",
            )
        if _QUESTION not in self.question:
            raise ConfigError(
                f"The question line {self.question!r} has no {_QUESTION}.",
                f"Put it in, for instance sampler.prompt.question='\"Question: {_QUESTION}\"'.",
            )

    def turn(self, frames: int, question: str) -> Turn:
        """One user turn of ``frames`` images."""
        turn: list[Mapping[str, Any]] = []
        for number in range(self.first_number, self.first_number + frames):
            turn += [text(self.label.replace(_NUMBER, str(number))), IMAGE, text(self.after_image)]
        return Turn([*turn, text(self.question.replace(_QUESTION, question)), text(self.instruction)])
