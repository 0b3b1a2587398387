"""Clips: the part of a video that a question may see, as a video of its own on the same clock.

For HourVideo's predictive tasks, which are asked over the video up to an event: the authors' code cuts a file there.
Here nothing is written, and times stay those of the whole video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pipeline.domain import Frame, FrameSource, PreparedPicture, PreparedPictures, Question, Span, Video
from pipeline.errors import ClipError, VideoError
from pipeline.identity import digest
from pipeline.video.preparing import prepared_pictures

Picture = TypeVar("Picture", Frame, PreparedPicture)

_ROUNDING = 1e-3
"""Seconds; as everywhere in the video room."""
_SLACK = 1.0
"""Seconds by which annotations may be wrong about where a video ends."""


def clip_of(video: Video, span: Span | None) -> Video:
    """The frames of ``video`` that come on screen within ``span``, at least one; the video itself without a span.

    A clip has a fingerprint of its own, so that nothing computed from it is taken for the whole video's. Its frame
    numbers begin at 0; :func:`pipeline.selection.native.native_index` gives the whole video's from the time.

    Where frames are not evenly spaced, the average rate does not tell when they come on screen. There a clip begins
    with its span, and the frame that is on screen then is its first, as in a file that is cut.

    Raises:
        ClipError: the span does not lie in the video.
    """
    if span is None or (span.start <= video.start and video.duration <= span.end):
        return video
    if not video.start - _ROUNDING <= span.start <= span.end <= video.duration + _SLACK or span.start >= video.duration:
        raise ClipError(
            f"{video.path} runs from {video.start:.2f} s to {video.duration:.2f} s, and the question may see "
            f"{span.start:.2f} s to {span.end:.2f} s of it",
            "correct the question's span, or check that this is the video that the question was written for",
        )
    end = min(span.end, video.duration)
    skipped = max(0, math.ceil((span.start - video.start - _ROUNDING) * video.fps))
    skipped = min(skipped, video.frame_count - 1)
    start = video.start + skipped / video.fps if video.is_even else max(span.start, video.start)
    count = max(1, math.ceil((end - start - _ROUNDING) * video.fps))
    return replace(
        video,
        fingerprint=video.fingerprint and digest({"video": video.fingerprint, "start": start, "end": end}),
        start=start,
        duration=end,
        frame_count=min(count, video.frame_count - skipped),
    )


def holds(clip: Video, seconds: Sequence[float]) -> bool:
    """Whether all ``seconds`` lie in the clip."""
    # The frame on screen when the clip begins may have come a little before.
    return all(clip.start - 1 / clip.fps - _ROUNDING <= second <= clip.duration for second in seconds)


@dataclass(frozen=True)
class ClipFrames:
    """The frames of a clip."""

    video: Video
    """As :func:`clip_of` gives it."""
    source: FrameSource
    """Of the whole video."""

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        """The frames on screen at ``seconds``.

        Raises:
            VideoError: a second is outside the clip.
        """
        return map(self.placed, self.source.frames_at(self._inside(seconds)))

    def prepared_at(self, seconds: Sequence[float], prepare: Callable[[Frame], Any]) -> PreparedPictures:
        """As :class:`pipeline.domain.PreparesPictures` has it.

        Raises:
            VideoError: a second is outside the clip.
        """
        pictures = prepared_pictures(self.source, self._inside(seconds), prepare)
        return pictures if self.video.is_even else _Placed(pictures, self)

    def placed(self, picture: Picture) -> Picture:
        """The picture; one that came before a clip of unevenly spaced frames is there from when the clip begins."""
        if self.video.is_even or picture.time >= self.video.start:
            return picture
        return replace(picture, time=self.video.start)

    def _inside(self, seconds: Sequence[float]) -> Sequence[float]:
        """The seconds, all of which are in the clip.

        Raises:
            VideoError: one is not.
        """
        if not holds(self.video, seconds):
            outside = next(second for second in seconds if not holds(self.video, [second]))
            raise VideoError(
                f"second {outside:.3f} of {self.video.path} is not to be seen: the question is about "
                f"{self.video.start:.3f} s to {self.video.duration:.3f} s",
                "take a sampler that keeps to the question's span of the video",
            )
        return seconds

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        """As the whole video's source."""
        return self.source.indices_at(seconds)

    def times_of(self, indices: Sequence[int]) -> list[float]:
        """As the whole video's source, but for the frame with which a clip of unevenly spaced frames begins."""
        times = self.source.times_of(indices)
        if self.video.is_even:
            return times
        start = self.video.start
        (first,) = self.source.indices_at([start])
        return [start if index == first else time for index, time in zip(indices, times, strict=True)]


class _Placed:
    """Prepared pictures of a clip, with their times in it."""

    def __init__(self, pictures: PreparedPictures, clip: ClipFrames) -> None:
        self._pictures = pictures
        self._clip = clip

    def __iter__(self) -> Iterator[PreparedPicture]:
        return self

    def __next__(self) -> PreparedPicture:
        return self._clip.placed(next(self._pictures))

    def ready(self, count: int) -> bool:
        """As :class:`PreparedPictures` has it."""
        return self._pictures.ready(count)

    def close(self) -> None:
        """Likewise."""
        self._pictures.close()


def by_span(questions: Sequence[Question]) -> dict[Span | None, list[Question]]:
    """Questions grouped by the clip that they may see."""
    groups: dict[Span | None, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.span, []).append(question)
    return groups
