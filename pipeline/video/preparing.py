"""Prepared pictures of any source: made in worker processes where the source has them, else as they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.domain import Frame, FrameSource, PreparedPicture, PreparedPictures, PreparesPictures


def prepared_pictures(
    source: FrameSource, seconds: Sequence[float], prepare: Callable[[Frame], Any]
) -> PreparedPictures:
    """Each picture on screen at the ascending ``seconds``, once, as ``prepare`` makes it.

    Raises:
        VideoError: a picture cannot be decoded, or not be prepared; also while the pictures are drawn.
    """
    if isinstance(source, PreparesPictures):
        return source.prepared_at(seconds, prepare)
    return PreparedHere(source.frames_at(seconds), prepare)


def as_decoded(frame: Frame) -> Any:
    """The pixels of a picture that needs no preparation."""
    return frame.pixels


@dataclass(frozen=True)
class OfPixels:
    """A preparation that needs only the pixels."""

    prepare: Callable[[Any], Any]

    def __call__(self, frame: Frame) -> Any:
        """What is made of a picture."""
        return self.prepare(frame.pixels)


@dataclass(frozen=True)
class AtScales:
    """A preparation of pictures that are shown at stated scales, each at one or several."""

    prepare: Callable[[Frame], Frame]
    scales: Mapping[int, tuple[float | None, ...]]
    """By native index."""

    def __call__(self, frame: Frame) -> dict[float | None, Frame]:
        """The picture as it is shown, by scale."""
        return {scale: self.prepare(replace(frame, scale=scale)) for scale in self.scales[frame.index]}


class PreparedHere:
    """Pictures that are decoded and prepared in this thread when they are drawn.

    Args:
        frames: in order of time; a repeated one is given once.
        prepare: called with each.
    """

    def __init__(self, frames: Iterator[Frame], prepare: Callable[[Frame], Any]) -> None:
        self._frames = frames
        self._prepare = prepare
        self._last: int | None = None

    def __iter__(self) -> Iterator[PreparedPicture]:
        return self

    def __next__(self) -> PreparedPicture:
        for frame in self._frames:
            if frame.index != self._last:
                self._last = frame.index
                return PreparedPicture(frame.time, frame.index, self._prepare(frame), frame.walked)
        raise StopIteration

    def ready(self, count: int) -> bool:
        """True: nothing becomes ready by waiting."""
        return True

    def close(self) -> None:
        """Decode no more."""
        self._frames = iter(())
