"""Stage 1: score which frames of a video matter for a question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from pipeline.domain import Frame, FrameSource, Question, Relevance, Video
from pipeline.errors import VideoError

PAUSE = 0.05
"""Seconds after which a stream that had nothing is asked again."""


@runtime_checkable
class Sampler(Protocol):
    """Scores the candidate frames of a video for all of its questions at once.

    Construction is cheap and imports no torch; the model is loaded by the first ``score`` and freed by ``close``.
    """

    @property
    def name(self) -> str:
        """The name in its YAML."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """All that decides the scores, as JSON values: settings, prompt, checkpoint revision. Loads no model.

        Part of the cache key: what only decides speed (device, batch size) stays out.
        """
        ...

    def query(self, question: Question) -> str:
        """The question as the sampler is given it, with or without its options. Part of the cache key."""
        ...

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        """One relevance a question, in their order. Frames are decoded and encoded once for all of them.

        Raises:
            VideoError: the video cannot be read.
            CheckpointError: the model cannot be loaded.
        """
        ...

    def close(self) -> None:
        """Free the model and its device memory."""
        ...


@dataclass(frozen=True)
class Work:
    """Questions that may see the same part of one video, and its frames."""

    video: Video
    frames: FrameSource
    questions: Sequence[Question]


@runtime_checkable
class ScoresStreams(Protocol):
    """A sampler that scores questions about several videos together, as its models are faster that way."""

    def score_stream(self, works: Iterable[Work | None]) -> Iterator[list[Relevance] | VideoError]:
        """What ``score`` gives for each of the works, in their order; or why its video cannot be read.

        The works are drawn one at a time, not long before they are needed, and their frames are used until their
        relevances are given. The relevances are those that ``score`` gives for each work alone.

        Args:
            works: None says that there is none yet: those in hand go on, and after :data:`PAUSE` the next is drawn.

        Raises:
            CheckpointError: the model cannot be loaded.
        """
        ...


@runtime_checkable
class PrefetchesPictures(Protocol):
    """A sampler that can tell, without its model, which pictures of a whole video it will score."""

    def pictures(self, video: Video) -> tuple[Sequence[float], Callable[[Frame], Any]]:
        """Their seconds, and what is made of each, as they will be asked for."""
        ...


@runtime_checkable
class ChecksQuestions(Protocol):
    """A sampler that can tell, without video or model, that it cannot score some questions."""

    def check(self, questions: Sequence[Question]) -> None:
        """Called with all questions of a run before any of them is scored.

        Raises:
            InputError: the sampler cannot score these questions.
        """
        ...


@runtime_checkable
class ChecksCheckpoint(Protocol):
    """A sampler that can tell from ``config.json`` that it cannot use a checkpoint."""

    def check_checkpoint(self) -> None:
        """Called before stage 1 where a model will be needed. Loads no weights, imports no torch.

        Raises:
            CheckpointError, ConfigError: the checkpoint is of another family, or its settings do not fit it.
        """
        ...


@runtime_checkable
class KeepsEmbeddings(Protocol):
    """A sampler that can tell whether policies can compare the frames of its relevances."""

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        """Whether each relevance with scores that it gives for these questions names the embeddings of its frames."""
        ...


@runtime_checkable
class PlansWindows(Protocol):
    """A sampler that can tell ``gens check`` how much its models will have to do."""

    def windows(self, video: Video, questions: Sequence[Question]) -> int:
        """Windows of frames, one for each call of its models, if no relevance is cached.

        No frame is decoded. A video whose pictures stay on screen may have fewer windows.
        """
        ...


@runtime_checkable
class ChecksWindows(Protocol):
    """A sampler that can tell from ``config.json`` that a window is too long for its model."""

    def check_windows(self, video: Video, questions: Sequence[Question]) -> None:
        """Called before stage 1 for each video that must be scored. Loads no weights.

        Raises:
            ConfigError: a window of this video is longer than the context of a model.
            CheckpointError: a checkpoint cannot be found.
        """
        ...


@runtime_checkable
class HoldsPrefix(Protocol):
    """A sampler whose model keeps frames in memory as a prompt while questions are answered."""

    def prefix_tokens(self) -> int:
        """The approximate number of tokens of the longest such prompt."""
        ...


@runtime_checkable
class WithoutPictures(Protocol):
    """A sampler that scores without decoding a frame, so that ``gens recall`` can run it without videos."""

    @property
    def without_pictures(self) -> Literal[True]:
        """``score`` decodes none of its ``frames``; it may ask for their times."""
        ...
