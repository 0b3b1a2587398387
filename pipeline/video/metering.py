"""Counts the pictures that a frame source hands over, what was decoded for them, and how long they were waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.domain import Frame, FrameSource, PreparedPicture, PreparedPictures, Video
from pipeline.video.preparing import prepared_pictures


class MeteredFrames:
    """The frames of another source.

    Args:
        source: the other one.

    Attributes:
        frames: pictures that it has handed over.
        seconds: for which they were waited for; where they are not decoded ahead, that is their decoding and preparing.
        walked: frames that were decoded for them; None where the backend does not say.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self.frames = 0
        self.seconds = 0.0
        self.walked: int | None = 0
        self._kept: int | None = 0  # frames that were decoded before, for pictures that were kept

    @property
    def video(self) -> Video:
        """As of the source."""
        return self._source.video

    def figures(self) -> dict[str, float]:
        """What was spent, by the names of :mod:`pipeline.ledger`."""
        return self._figures(self.walked)

    def alone(self) -> dict[str, float]:
        """Likewise, with what was decoded before for pictures that were kept."""
        return self._figures(_sum(self.walked, self._kept))

    def _figures(self, walked: int | None) -> dict[str, float]:
        size = self.video.width * self.video.height
        known = {} if walked is None else {"frames_walked": walked}
        return {"frames_decoded": self.frames, **known, "pixels": self.frames * size, "decode_seconds": self.seconds}

    def count(self, picture: Frame | PreparedPicture) -> None:
        """Note a picture that is handed over."""
        self.frames += 1
        if isinstance(picture, PreparedPicture) and picture.is_stored:
            self._kept = _sum(self._kept, picture.walked)
        else:
            self.walked = _sum(self.walked, picture.walked)

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        """As of the source; a picture that is given several times in a row counts once."""
        frames, last = self._source.frames_at(seconds), None
        while True:
            begin = time.perf_counter()
            frame = next(frames, None)
            self.seconds += time.perf_counter() - begin
            if frame is None:
                return
            if frame.index != last:
                self.count(frame)
            last = frame.index
            yield frame

    def prepared_at(self, seconds: Sequence[float], prepare: Callable[[Frame], Any]) -> PreparedPictures:
        """As of the source, or prepared here where it prepares nothing."""
        return _MeteredPictures(prepared_pictures(self._source, seconds, prepare), self)

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        """As of the source."""
        return self._source.indices_at(seconds)

    def times_of(self, indices: Sequence[int]) -> list[float]:
        """As of the source."""
        return self._source.times_of(indices)


class _MeteredPictures:
    """A stream of pictures, counted by the meter of its source."""

    def __init__(self, pictures: PreparedPictures, meter: MeteredFrames) -> None:
        self._pictures = pictures
        self._meter = meter

    def __iter__(self) -> Iterator[PreparedPicture]:
        return self

    def __next__(self) -> PreparedPicture:
        begin = time.perf_counter()
        try:
            picture = next(self._pictures)
        finally:
            self._meter.seconds += time.perf_counter() - begin
        self._meter.count(picture)
        return picture

    def ready(self, count: int) -> bool:
        """As of the pictures."""
        return self._pictures.ready(count)

    def close(self) -> None:
        """As of the pictures."""
        self._pictures.close()


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
