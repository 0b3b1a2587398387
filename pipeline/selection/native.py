"""Converts between seconds and native frame indices, at the video's average rate.

Frame i of N is on screen from start + i / fps until start + (i + 1) / fps. A decoded frame has its own index, which
comes with its relevance; these functions are for moments of which nothing was decoded.
"""

from __future__ import annotations

import math

from pipeline.domain import Video

_ROUNDING = 1e-3
"""Seconds. ``(i / fps) * fps`` may come out below i, containers count in milliseconds, and times that went through a
file may have lost some digits. The video room allows as much."""


def native_index(time: float, video: Video) -> int:
    """The frame on screen at ``time``: floor((time - start) * fps), the nearest existing one outside the video.

    Floor and not round, as in ``FrameSource.frames_at``: two seconds that show one picture then have one index.
    """
    return min(max(math.floor((time - video.start + _ROUNDING) * video.fps), 0), video.frame_count - 1)


def native_time(index: int, video: Video) -> float:
    """Second from which the frame is on screen: start + index / fps."""
    return video.start + index / video.fps
