"""What a video file holds, found out by looking at every packet and decoding one picture.

The container's own figures (frame count, duration, average rate) are often wrong, so they only serve to notice that
something is missing. An hour of video takes about half a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import (
    EmptyVideoError,
    NoVideoStreamError,
    TruncatedVideoError,
    UnsupportedVideoError,
    VideoError,
)
from pipeline.video.failures import FETCH_AGAIN, convert, reading
from pipeline.video.orientation import Orientation, read_orientation
from pipeline.video.packets import Packets, open_container, read_packets
from pipeline.video.place import absolute, regular_file
from pipeline.video.timeline import Timeline

# Demuxers that take any text or bytes for pictures.
_NOT_VIDEO = frozenset({"tty", "bin", "xbin", "adf", "idf", "rawvideo"})
# By so many seconds a header may promise more than there is: rounding, and tracks that end a little apart.
_HEADER_SLACK = 0.5
# Seconds; a file that claims to be longer has damaged timestamps or a damaged header.
_LONGEST = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Scan:
    """A file's video track."""

    path: Path
    """As it is named; for messages."""
    file: Path
    """The file itself, behind all symbolic links; what decoders open."""
    container: str
    codec: str
    width: int
    """Pixels, as shown."""
    height: int
    orientation: Orientation
    timeline: Timeline
    packets: Packets
    positions: npt.NDArray[np.int64]
    """``[frames]``: the place of each frame's packet, by native index."""
    keys: npt.NDArray[np.int64]
    """Ascending places of the packets from which decoding can start."""
    seconds_per_tick: float
    stream_index: int
    declared_frames: int
    """What the container says, 0 if it does not."""
    has_b_frames: bool
    stores_order: bool
    """Whether packets tell when they are shown; AVI stores only the order of decoding."""
    video_streams: int

    @property
    def frame_count(self) -> int:
        """Frames that are there."""
        return len(self.positions)

    def second_of(self, stamp: int) -> float:
        """A presentation timestamp as seconds since the first frame."""
        return float((stamp - self.packets.pts[self.positions[0]]) * self.seconds_per_tick)


def scan(path: Path) -> Scan:
    """Look at the whole file. Remembered while it stays the same.

    Raises:
        MissingVideoError: there is no such file.
        EmptyVideoError: the file has no bytes, or no picture.
        NoVideoStreamError: the file has no picture track.
        TruncatedVideoError: the file was cut so short that nothing can be read.
        UnsupportedVideoError: not a video, or one that FFmpeg does not decode.
    """
    named = absolute(path)
    with reading(named):
        file = regular_file(named)
        found = file.stat()
        return _scan(named, file, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4)
def _scan(path: Path, file: Path, size: int, modified: int) -> Scan:
    import av

    try:
        container = open_container(file)
    except (av.FFmpegError, ValueError) as error:
        raise _unopenable(path, error) from error
    with container:
        if container.format.name in _NOT_VIDEO:
            raise UnsupportedVideoError(f"{path} is not a video file", "give the path of a video or a folder of images")
        # Cover art of a sound file is a video track too.
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            raise NoVideoStreamError(f"{path} holds no pictures, only sound or data", "give a file with a video track")
        if streams[0].codec_context is None:
            raise UnsupportedVideoError(f"{path}: FFmpeg does not know the codec of the video track", convert(path))
        return _read_track(path, file, container, streams[0], len(streams))


def _read_track(path: Path, file: Path, container: Any, stream: Any, video_streams: int) -> Scan:
    packets = read_packets(container, stream)
    positions = packets.usable()
    stores_order = container.format.name != "avi"
    if not stores_order:
        positions = np.sort(positions)
    if not packets.has_times:
        raise UnsupportedVideoError(
            f"{path} stores no times, only pictures",
            "put it into a container: ffmpeg -r RATE -i INPUT -c copy OUTPUT.mp4",
        )
    if not len(positions):
        if stream.frames or not packets.reaches_end:
            raise TruncatedVideoError(f"{path} ends before its first picture", FETCH_AGAIN)
        raise EmptyVideoError(f"{path} has a video track without a single picture", FETCH_AGAIN)
    stamps = (packets.pts if stores_order else packets.dts)[positions]
    if len(stamps) > 1 and np.diff(stamps).min() <= 0:
        raise UnsupportedVideoError(
            f"{path}: several pictures carry one timestamp, so their times are unknown", convert(path)
        )
    if (stamps[-1] - stamps[0]) * float(stream.time_base) > _LONGEST:
        raise UnsupportedVideoError(f"{path}: the times of its pictures span more than a week", FETCH_AGAIN)
    timeline = _timeline(stamps, container, stream, packets, int(packets.durations[positions[-1]]))
    if timeline.is_truncated:
        # Pictures stored behind the cut may belong between those before it; none is shown before it is decoded.
        known = stamps <= packets.dts[packets.is_shown].max()
        positions = positions[known]
        timeline = _timeline(stamps[known], container, stream, packets, 0)
    width, height, orientation = _first_picture(path, file, stream.index)
    return Scan(
        path=path,
        file=file,
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=width,
        height=height,
        orientation=orientation,
        timeline=timeline,
        packets=packets,
        positions=positions,
        keys=np.flatnonzero(packets.is_key),
        seconds_per_tick=float(stream.time_base),
        stream_index=stream.index,
        declared_frames=int(stream.frames),
        has_b_frames=bool(stream.codec_context.has_b_frames),
        stores_order=stores_order,
        video_streams=video_streams,
    )


def _timeline(stamps: npt.NDArray[np.int64], container: Any, stream: Any, packets: Packets, last: int) -> Timeline:
    """Times from ascending stamps; ``last`` is for how long the last frame is shown, 0 for as long as the average."""
    tick = float(stream.time_base)
    times = (stamps - stamps[0]) * tick
    shown_for = last * tick
    if not last:
        shown_for = float(times[-1]) / (len(times) - 1) if len(times) > 1 else float(1 / (stream.average_rate or 1))
    end = float(times[-1]) + shown_for
    return Timeline(times, end, _declared_end(container, stream, packets, end))


def _declared_end(container: Any, stream: Any, packets: Packets, end: float) -> float:
    """When the video would end if the file were whole; ``end`` itself where nothing is missing."""
    whole = container.duration / 1e6 if container.duration else 0.0
    track = float(stream.duration * stream.time_base) if stream.duration else whole
    if container.format.name == "avi":  # its durations are those of what is left of the file
        track = end * stream.frames / packets.count if stream.frames else end
    track, whole = (value if value <= _LONGEST else end for value in (track, whole))
    if not packets.reaches_end:
        return max(track, end + _HEADER_SLACK)
    if packets.count < stream.frames:
        return max(track, end)
    # A header may count the sound too, so nothing is missing as long as any track reaches the end.
    start = (container.start_time or 0) / 1e6
    return max(track, end) if whole > packets.last_second - start + _HEADER_SLACK else end


def _first_picture(path: Path, file: Path, stream_index: int) -> tuple[int, int, Orientation]:
    """Width, height and orientation as shown."""
    import av

    try:
        with open_container(file) as container:
            for frame in container.decode(container.streams[stream_index]):
                orientation = read_orientation(frame)
                width, height = frame.width, frame.height
                return (height, width, orientation) if orientation.swaps else (width, height, orientation)
    except av.FFmpegError as error:
        raise UnsupportedVideoError(
            f"{path}: the first picture cannot be decoded ({error.strerror})", f"{FETCH_AGAIN}, or {convert(path)}"
        ) from error
    raise EmptyVideoError(f"{path}: no picture can be decoded", FETCH_AGAIN)


def _unopenable(path: Path, error: Exception) -> VideoError:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return TruncatedVideoError(
            f"{path} is an MP4 file without its index, as an interrupted download leaves it", "fetch the file again"
        )
    return UnsupportedVideoError(
        f"{path} is not a video that FFmpeg can open ({error})", "give the path of a video or a folder of images"
    )
