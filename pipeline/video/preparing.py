"""Prepared pictures of any source: made in worker processes where the source has them, else as they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.domain import Frame, FrameSource, PreparedPicture, PreparedPictures, PreparesPictures


def prepared_pictures(source: FrameSource, seconds: Sequence[float], prepare: Callable[[Any], Any]) -> PreparedPictures:
    """Each picture on screen at the ascending ``seconds``, once, as ``prepare`` makes it of the pixels.

    Raises:
        VideoError: a picture cannot be decoded, or not be prepared; also while the pictures are drawn.
    """
    if isinstance(source, PreparesPictures):
        return source.prepared_at(seconds, prepare)
    return PreparedHere(source.frames_at(seconds), prepare)


def as_decoded(pixels: Any) -> Any:
    """A picture that needs no preparation."""
    return pixels


class PreparedHere:
    """Pictures that are decoded and prepared in this thread when they are drawn.

    Args:
        frames: in order of time; a repeated one is given once.
        prepare: called with the pixels of each.
    """

    def __init__(self, frames: Iterator[Frame], prepare: Callable[[Any], Any]) -> None:
        self._frames = frames
        self._prepare = prepare
        self._last: int | None = None

    def __iter__(self) -> Iterator[PreparedPicture]:
        return self

    def __next__(self) -> PreparedPicture:
        for frame in self._frames:
            if frame.index != self._last:
                self._last = frame.index
                return PreparedPicture(frame.time, frame.index, self._prepare(frame.pixels))
        raise StopIteration

    def ready(self, count: int) -> bool:
        """True: nothing becomes ready by waiting."""
        return True

    def close(self) -> None:
        """Decode no more."""
        self._frames = iter(())
