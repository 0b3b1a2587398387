"""Stage 2: answer a question from only the selected frames.

:mod:`pipeline.answerers.local` asks any model on this machine; a family of models adds its inputs and its forms to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pipeline.domain import Answer, Cost, Frame, Question, Status, SubtitleLine, Video

NO_LIMIT = 10**12
"""Tokens of context where none are counted."""


@dataclass(frozen=True)
class AnswererLimits:
    """What an answerer can take, known before it is called."""

    context_tokens: int
    """Tokens of frames, question and answer together; :data:`NO_LIMIT` where it is not known."""
    tokens_per_frame: int
    """For one frame of the usual size, its time label included."""
    max_frames: int | None
    """The largest number of frames; None if only the context limits it."""
    time_told: str
    """How the model learns when a frame was, in one line."""


@dataclass(frozen=True)
class AnswerRequest:
    """A question and the frames to answer it from, in order of time."""

    question: Question
    video: Video
    frames: tuple[Frame, ...]
    subtitles: tuple[SubtitleLine, ...] = ()
    """The subtitle lines to show, in order of time."""

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds of the frames."""
        return tuple(frame.time for frame in self.frames)

    def failed(self, status: Status, detail: str, form: str, cost: Cost | None = None) -> Answer:
        """The answer that says why there is none.

        Args:
            status: of the failure.
            detail: what is wrong and what to do.
            form: how the frames and their times were to be shown.
            cost: what was spent before.
        """
        return Answer(
            question_id=self.question.id,
            text="",
            status=status,
            detail=detail,
            form=form,
            frame_times=self.times,
            cost=cost or Cost(),
        )


@runtime_checkable
class Answerer(Protocol):
    """Answers requests. Construction is cheap and imports no torch; the model loads when the first request needs it."""

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

    def capacity(self, request: AnswerRequest) -> int:
        """How many of the request's frames fit together with its question.

        Loads no model.
        """
        ...

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        """One answer for each request, in any order, as soon as it is finished. Closing it draws no more.

        Requests are drawn as they are needed, a little ahead and from another thread, so that frames are decoded and
        prepared while the model is busy, and requests that are under way go on while the next one has to be waited
        for. A failure of one request is its status and does not affect the others.

        Args:
            requests: question ids differ. An error that drawing raises ends the iteration with it, after the answers to
                what was drawn before.
            batch: the largest number of requests that are in the model, or sent to a server, at once.

        Raises:
            CheckpointError: the model cannot be loaded.
        """
        ...

    def close(self) -> None:
        """Free the model and its device memory."""
        ...


@runtime_checkable
class Repeats(Protocol):
    """An answerer that knows whether a request always has the same answer. Others share no answers."""

    @property
    def is_repeatable(self) -> bool:
        """Whether an answer of another run to the same request may be used."""
        ...


@runtime_checkable
class PreparesAhead(Protocol):
    """An answerer that prepares requests in the memory of this machine while others are in the model."""

    def hold_at_most(self, prepared_bytes: int) -> None:
        """Prepared requests, those in the model included, hold no more than this, where more than one is held."""
        ...


@runtime_checkable
class PreparesFrames(Protocol):
    """An answerer whose frames can be prepared where they are decoded, in another process."""

    def frame_preparation(self) -> Callable[[Frame], Frame] | None:
        """Makes of a decoded frame one that is prepared, or gives it back as it is. None: the answerer does it itself.

        It can be pickled, is small and imports no torch. Loads no weights.

        Raises:
            CheckpointError: the checkpoint cannot be used.
        """
        ...


@runtime_checkable
class TakesScales(Protocol):
    """An answerer whose frames may have the sizes that their selection states."""

    def check_scales(self, scales: Collection[float | None]) -> None:
        """Raise where frames of these scales cannot be put into one request. Loads no weights.

        Args:
            scales: as of :class:`pipeline.domain.SelectedFrame`.

        Raises:
            ConfigError, CheckpointError, FramesError: they cannot.
        """
        ...

    def visual_tokens(self, height: int, width: int, scale: float | None) -> int | None:
        """The tokens of a frame's pixels, without its label; None where only a server counts them.

        Args:
            height: as decoded.
            width: likewise.
            scale: as in :meth:`check_scales`.
        """
        ...


@runtime_checkable
class LimitsOutput(Protocol):
    """An answerer that keeps room for more than ``max_new_tokens``."""

    def output_tokens(self) -> int:
        """Tokens kept for a thought and the answer together. Loads no weights.

        Raises:
            CheckpointError: the checkpoint cannot be used.
        """
        ...


@runtime_checkable
class ChecksSubtitles(Protocol):
    """An answerer with a form that has no place for words between the frames."""

    def check_subtitles(self) -> None:
        """Raise where the prompt puts subtitles there; loads nothing.

        Raises:
            ConfigError: it does.
        """
        ...
