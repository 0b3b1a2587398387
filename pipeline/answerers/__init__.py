"""Stage 2: answer a question from the selected frames alone.

:mod:`pipeline.answerers.local` asks any model on this machine; a family of models adds its inputs and its forms to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pipeline.domain import Answer, Frame, Question, Video


@dataclass(frozen=True)
class AnswererLimits:
    """What an answerer can take, known before it is called."""

    context_tokens: int
    """Tokens of frames, question and answer together."""
    tokens_per_frame: int
    """For one frame of the usual size, its time label included."""
    max_frames: int | None
    """A cap other than the context; none if there is none."""
    time_told: str
    """How the model learns when a frame was, in one line."""


@dataclass(frozen=True)
class AnswerRequest:
    """A question and the frames to answer it from, in order of time."""

    question: Question
    video: Video
    frames: tuple[Frame, ...]


@runtime_checkable
class Answerer(Protocol):
    """Answers batches of requests. Construction is cheap and imports no torch; the model loads at the first batch."""

    @property
    def name(self) -> str:
        """As in its YAML."""
        ...

    def limits(self) -> AnswererLimits:
        """Read from the settings and the checkpoint's config; loads no model."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """All that decides the answers, as JSON values; what only decides speed stays out."""
        ...

    def answer(self, requests: Sequence[AnswerRequest]) -> list[Answer]:
        """One answer a request, in their order. A failure of one is its status and leaves the others alone.

        Raises:
            CheckpointError: the model cannot be loaded.
        """
        ...

    def close(self) -> None:
        """Free the model and its device memory."""
        ...
