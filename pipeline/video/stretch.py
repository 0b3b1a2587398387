"""The part of a video that a question may see, as a video of its own on the same clock.

For HourVideo's predictive tasks, which are asked over the video up to an event: the authors' code cuts a file there.
Here nothing is written, and times stay those of the whole video.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.domain import Frame, FrameSource, Question, Span, Video
from pipeline.errors import StretchError, VideoError
from pipeline.identity import digest

_ROUNDING = 1e-3
"""Seconds; as everywhere in the video room."""
_SLACK = 1.0
"""Seconds by which annotations may be wrong about where a video ends."""


def stretch(video: Video, span: Span | None) -> Video:
    """What may be seen of ``video``: its frames that come on screen within ``span``, at least one; all without a span.

    It has another fingerprint, so that nothing computed of it is taken for the whole video's. Its frame numbers begin
    at 0; :func:`pipeline.selection.native.native_index` gives the whole video's from the time.

    Raises:
        StretchError: the span does not lie in the video.
    """
    if span is None or (span.start <= video.start and video.duration <= span.end):
        return video
    if not video.start - _ROUNDING <= span.start <= span.end <= video.duration + _SLACK or span.start >= video.duration:
        raise StretchError(
            f"{video.path} runs from {video.start:.2f} s to {video.duration:.2f} s, and the question may see "
            f"{span.start:.2f} s to {span.end:.2f} s of it",
            "mend the question's span, or check that this is the video that the question was written for",
        )
    end = min(span.end, video.duration)
    skipped = max(0, math.ceil((span.start - video.start - _ROUNDING) * video.fps))
    skipped = min(skipped, video.frame_count - 1)
    start = video.start + skipped / video.fps
    count = max(1, math.ceil((end - start - _ROUNDING) * video.fps))
    return replace(
        video,
        fingerprint=video.fingerprint and digest({"video": video.fingerprint, "start": start, "end": end}),
        start=start,
        duration=end,
        frame_count=min(count, video.frame_count - skipped),
    )


def holds(view: Video, seconds: Sequence[float]) -> bool:
    """Whether all ``seconds`` lie in the video or the stretch of one."""
    # A frame that is on screen when the stretch begins may have come a little before.
    return all(view.start - 1 / view.fps - _ROUNDING <= second <= view.duration for second in seconds)


@dataclass(frozen=True)
class StretchFrames:
    """The frames of a stretch alone."""

    video: Video
    """As :func:`stretch` gives it."""
    source: FrameSource
    """Of the whole video."""

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        """See :class:`pipeline.domain.FrameSource`.

        Raises:
            VideoError: a second lies outside of the stretch.
        """
        if not holds(self.video, seconds):
            outside = next(second for second in seconds if not holds(self.video, [second]))
            raise VideoError(
                f"second {outside:.3f} of {self.video.path} is not to be seen: the question is about "
                f"{self.video.start:.3f} s to {self.video.duration:.3f} s",
                "take a sampler that keeps to the question's stretch of the video",
            )
        return self.source.frames_at(seconds)

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        """As the whole video's source."""
        return self.source.indices_at(seconds)

    def times_of(self, indices: Sequence[int]) -> list[float]:
        """As the whole video's source."""
        return self.source.times_of(indices)


def by_span(questions: Sequence[Question]) -> dict[Span | None, list[Question]]:
    """Questions that may see the same of their video, together."""
    groups: dict[Span | None, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.span, []).append(question)
    return groups
