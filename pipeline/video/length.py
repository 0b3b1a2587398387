"""How long a video is, and whether its end is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.video.containers.riff import riff_is_whole
from pipeline.video.packets import Packets
from pipeline.video.timeline import Timeline

LONGEST = 7 * 24 * 3600.0
"""Seconds; a file that claims to be longer has damaged timestamps or a damaged header."""
_HEADER_SLACK = 0.5
"""Seconds by which a header may exceed the content, through rounding and tracks that end a little apart."""
_DELAY = 0.1
"""Seconds by which encoders delay pictures or begin sound early, which players do not show."""


def timeline_of(
    file: Path, container: Any, stream: Any, packets: Packets, positions: npt.NDArray[np.int64], last: int
) -> Timeline:
    """The timeline of the pictures, on the clock that players show and subtitles refer to.

    Second 0 is where the first track of pictures or sound begins.

    Args:
        file: the video file.
        container: an open PyAV container of it.
        stream: the track.
        packets: of the track.
        positions: positions of packets by native index of their picture.
        last: ticks for which the last picture is shown; 0 for the average.
    """
    tick = float(stream.time_base)
    stamps = packets.pts[positions]
    counts_frames = container.format.name == "avi"  # from the first chunk, even if it is empty
    # Sound shortly before 0 is the encoder's priming and is not heard.
    begins = 0.0 if counts_frames or -_DELAY < packets.first_second < 0 else packets.first_second
    start = float(packets.stored_pts[positions[0]]) * tick - begins
    is_exact = counts_frames and packets.has_order
    start = start if is_exact or start > _DELAY else 0.0
    times = start + (stamps - stamps[0]) * tick
    shown_for = last * tick
    if not shown_for:
        average = float(times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
        shown_for = average or float(1 / (stream.average_rate or 1))
    end = max(float(times[-1]) + shown_for, start + float(packets.last_empty - stamps[0]) * tick)
    if counts_frames:
        return _avi(file, times, end, int(stream.frames) * tick, packets)
    return Timeline(times, end, _declared_end(container, stream, packets, start, end))


def _avi(file: Path, times: npt.NDArray[np.float64], end: float, promised: float, packets: Packets) -> Timeline:
    """AVI counts frames, including empty ones, which FFmpeg skips; only the header counts those at the end."""
    if packets.reaches_end and riff_is_whole(file):
        return Timeline(times, max(end, promised), max(end, promised))
    return Timeline(times, end, max(end, promised or end + _HEADER_SLACK))


def _declared_end(container: Any, stream: Any, packets: Packets, start: float, end: float) -> float:
    """When the video would end if the file were whole; ``end`` itself where nothing is missing."""
    whole = container.duration / 1e6 if container.duration else 0.0
    track = start + float(stream.duration * stream.time_base) if stream.duration else whole
    track, whole = (value if value <= LONGEST else end for value in (track, whole))
    if not packets.reaches_end:
        return max(track, end + _HEADER_SLACK)
    if packets.is_joined:  # a header covers only one clock
        return end
    if packets.count < stream.frames:
        return max(track, end)
    # A header may count the sound too, so nothing is missing as long as any track reaches the end.
    begins = (container.start_time or 0) / 1e6
    if "matroska" in container.format.name:  # its duration counts from 0, wherever the tracks begin
        begins, whole = min(begins, 0.0), whole - max(begins, 0.0)
    return max(track, end) if whole > packets.last_second - begins + _HEADER_SLACK else end
