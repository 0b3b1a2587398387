"""Candidate frames of a video, prepared for a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from pipeline.domain import Frame, FrameSource, PreparedPictures, Video
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import Opened, Pixels, PreparedFrame, Processor
from pipeline.video.preparing import OfPixels, prepared_pictures
from pipeline.video.timeline import candidate_times


@runtime_checkable
class FrameForm(Protocol):
    """What a sampler's frames become, by the family of its checkpoint; a dataclass, whose fields decide the scores."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def tokens(self) -> int:
        """Tokens of a frame in the prompt, without its label."""
        ...

    @property
    def smaller(self) -> str:
        """Overrides by which a frame takes fewer tokens; empty where there are none."""
        ...

    def context_tokens(self, checkpoint: Checkpoint) -> int:
        """Positions for prompt and answer together, by ``config.json``.

        Raises:
            CheckpointError: it is of another family, or does not say.
        """
        ...

    def opened(self, checkpoint: Checkpoint) -> Opened[Processor[Any]]:
        """The processor and the model of a checkpoint.

        Raises:
            CheckpointError: it is of another family, or a file is missing.
        """
        ...

    def check(self, checkpoint: Checkpoint) -> None:
        """Check by its ``config.json`` that a checkpoint takes frames of this form.

        Raises:
            CheckpointError: it is of another family.
        """
        ...


@dataclass(frozen=True)
class Candidate:
    """A frame that may be chosen, made small as it comes: a window of them is a few megabytes."""

    time: float
    """Its own timestamp in seconds."""
    frame: PreparedFrame


class Candidates:
    """The candidates of a video, in order of time. Their decoding begins before they are drawn, where it can.

    Args:
        pictures: prepared ones.
    """

    def __init__(self, pictures: PreparedPictures) -> None:
        self._pictures = pictures

    def __iter__(self) -> Iterator[Candidate]:
        return self

    def __next__(self) -> Candidate:
        """The next candidate.

        Raises:
            VideoError: a frame cannot be decoded.
            FramesError: a frame of this shape cannot be shown to the model.
        """
        picture = next(self._pictures)
        return Candidate(picture.time, picture.content)

    def ready(self, count: int) -> bool:
        """Whether the next ``count`` candidates, or all that are left, can be had without waiting."""
        return self._pictures.ready(count)

    def close(self) -> None:
        """Decode no more."""
        self._pictures.close()


def candidates(video: Video, frames: FrameSource, fps: float, prepare: Callable[[Pixels], PreparedFrame]) -> Candidates:
    """``fps`` frames a second of the whole video, as the model takes them.

    A picture that stays on screen for several of these seconds is one candidate.

    Args:
        video: or clip.
        frames: its frames.
        fps: candidates a second.
        prepare: the family's. It runs in a worker process if it can be pickled, so it must not hold the model.
    """
    return Candidates(prepared_pictures(frames, *candidate_pictures(video, fps, prepare)))


def candidate_pictures(
    video: Video, fps: float, prepare: Callable[[Pixels], PreparedFrame]
) -> tuple[Sequence[float], Callable[[Frame], Any]]:
    """Seconds of the candidates, and what is made of the picture at each; for the arguments see :func:`candidates`."""
    return candidate_times(video, fps), OfPixels(prepare)


def distinct(video: Video, frames: FrameSource, fps: float) -> Iterator[Frame]:
    """``fps`` frames a second of the whole video; a picture that stays on screen is given once.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    last: int | None = None
    for frame in frames.frames_at(candidate_times(video, fps)):
        if frame.index != last:
            yield frame
        last = frame.index
