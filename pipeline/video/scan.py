"""Scans a video file: reads every packet and decodes one picture.

The container's own figures (frame count, duration, average rate) are often wrong, so they only serve to notice that
something is missing. An hour of video takes about half a second.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from pipeline.video.clock import on_one_clock
from pipeline.video.containers import damaged_packets
from pipeline.video.demuxing import is_cover, open_container
from pipeline.video.failures import FETCH_AGAIN, convert, reading
from pipeline.video.length import LONGEST, timeline_of
from pipeline.video.orientation import Orientation, read_orientation
from pipeline.video.packets import NEVER, Packets, read_packets
from pipeline.video.place import absolute, regular_file
from pipeline.video.references import check_is_no_reference
from pipeline.video.timeline import Timeline

# AVFMT_TS_DISCONT of FFmpeg's libavformat/avformat.h: the clock of such containers may start again.
_CLOCK_MAY_BREAK = 0x0200
# AVFMT_NOTIMESTAMPS of the same header: streams without a container, for which FFmpeg assumes 25 pictures a second
# unless their headers say another rate.
_STORES_NO_TIMES = 0x0080
_TIMED = frozenset({"mpeg1video", "mpeg2video"})


# Packets among which the first picture must be: codecs hold back 16, and a recovery takes some seconds.
_FIRST_PICTURE = 600

# Packets by which codecs may put pictures out of order.
_REORDERED = 16


@dataclass(frozen=True)
class Scan:
    """A file's video track."""

    path: Path
    """The path as given, for messages."""
    file: Path
    """The file behind all symbolic links, which decoders open."""
    container: str
    codec: str
    width: int
    """Pixels, as shown."""
    height: int
    orientation: Orientation
    timeline: Timeline
    packets: Packets
    positions: npt.NDArray[np.int64]
    """``[frames]``: the position of each frame's packet, by native index."""
    seconds_per_tick: float
    stream_index: int
    declared_frames: int
    """The container's number of frames; 0 if it has none."""
    has_b_frames: bool
    video_streams: int

    @property
    def frame_count(self) -> int:
        """Number of frames in the file."""
        return len(self.positions)

    @property
    def stores_order(self) -> bool:
        """Whether packets have presentation times; AVI stores only decoding order."""
        return self.packets.has_order

    def entry(self, index: int) -> int:
        """Position of the last packet from which decoding gives the frame ``index`` whole.

        It is a packet of the same recording, at or before the frame's own, at which the codec's headers say that
        decoding can start, and from which pictures are whole at the frame's time.
        """
        return self.packets.entry(int(self.positions[index]))

    @property
    def is_counted(self) -> bool:
        """Whether frames can only be found by decoding from the start and counting them."""
        return self.has_b_frames and not self.stores_order

    def packets_to(self, indices: Sequence[int]) -> int:
        """Packets to decode for frames of ascending native indices: from their entries, or from the frame before."""
        if self.is_counted:
            return int(self.positions[indices[-1]]) + 1 if indices else 0
        packets, last = 0, -1
        for index in indices:
            place = int(self.positions[index])
            packets += max(place - max(self.entry(index) - 1, last), 1)
            last = max(last, place)
        return packets

    def is_entry(self, index: int) -> bool:
        """Whether decoding can start at the frame ``index`` itself."""
        return self.entry(index) == int(self.positions[index])

    def second_of(self, stamp: int) -> float:
        """A presentation timestamp as seconds of the video."""
        since = float(stamp - self.packets.pts[self.positions[0]]) * self.seconds_per_tick
        return float(self.timeline.times[0]) + since


def scan(path: Path) -> Scan:
    """Scan the whole file. Cached while it stays the same.

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

    check_is_no_reference(path, file)
    if is_animated_webp(file):
        images = f"[i.copy() for i in ImageSequence.Iterator(Image.open({json.dumps(str(path))}))]"
        target = json.dumps(str(path.with_suffix(".converted.png")))
        durations = '[i.info["duration"] for i in f]'
        save = f"f[0].save({target}, save_all=True, append_images=f[1:], duration={durations})"
        program = f"from PIL import Image, ImageSequence; f = {images}; {save}"
        raise UnsupportedVideoError(
            f"{path} is an animated WebP, which FFmpeg does not decode",
            f"convert it to an animated PNG: python -c {shlex.quote(program)}",
        )
    try:
        container = open_container(file)
    except (av.FFmpegError, ValueError) as error:
        raise _unopenable(path, error) from error
    with container:
        # Cover art of a sound file is a video track too.
        streams = [stream for stream in container.streams.video if not is_cover(stream)]
        if not streams:
            raise NoVideoStreamError(f"{path} holds no pictures, only sound or data", "give a file with a video track")
        if streams[0].codec_context is None:
            raise UnsupportedVideoError(f"{path}: FFmpeg does not know the codec of the video track", convert(path))
        return _read_track(path, file, container, streams[0], len(streams))


def _read_track(path: Path, file: Path, container: Any, stream: Any, video_streams: int) -> Scan:
    packets = read_packets(file, container, stream)
    codec = stream.codec_context.codec.canonical_name
    is_made_up = container.format.flags & _STORES_NO_TIMES and codec not in _TIMED and packets.count > 1
    if is_made_up or not packets.has_times:
        raise UnsupportedVideoError(
            f"{path} stores no times, only pictures",
            f"{convert(path, rate=25)} (with its own rate for 25)",
        )
    tick = float(stream.time_base)
    packets = on_one_clock(packets, path, tick, bool(container.format.flags & _CLOCK_MAY_BREAK))
    positions = packets.usable()
    if not len(positions):
        raise _without_picture(path, stream, packets)
    stamps = packets.pts[positions]
    if len(stamps) > 1 and np.diff(stamps).min() <= 0:
        raise UnsupportedVideoError(
            f"{path}: several pictures carry one timestamp, so their times are unknown", convert(path)
        )
    if (stamps[-1] - stamps[0]) * tick > LONGEST:
        raise UnsupportedVideoError(f"{path}: the times of its pictures span more than a week", FETCH_AGAIN)
    timeline = timeline_of(file, container, stream, packets, positions, int(packets.durations[positions[-1]]))
    if timeline.is_truncated:
        # Pictures lost after the cut may belong between those before it; no picture is shown before it is decoded.
        positions = positions[stamps <= packets.dts[packets.is_shown].max()]
        if not len(positions):
            raise TruncatedVideoError(f"{path} ends before its first picture", FETCH_AGAIN)
        timeline = timeline_of(file, container, stream, packets, positions, 0)
    width, height, orientation = _first_picture(path, file, stream.index, packets)
    surely = damaged_packets(file, container.format.name, packets.places, packets.count < stream.frames)
    lag = 1 if container.format.name == "mpegts" else 0  # FFmpeg marks the next packet
    damaged = _damaged(packets, positions, surely, lag)
    return Scan(
        path=path,
        file=file,
        container=container.format.name,
        codec=codec,
        width=width,
        height=height,
        orientation=orientation,
        timeline=replace(timeline, damaged=damaged),
        packets=packets,
        positions=positions,
        seconds_per_tick=tick,
        stream_index=stream.index,
        declared_frames=int(stream.frames),
        has_b_frames=bool(stream.codec_context.has_b_frames),
        video_streams=video_streams,
    )


def _damaged(
    packets: Packets, positions: npt.NDArray[np.int64], surely: npt.NDArray[np.bool_], lag: int
) -> frozenset[int]:
    """Indices of frames whose decoding needs a packet with lost or damaged parts.

    Packets after one that FFmpeg marks may be lost altogether, so nothing is whole until the next entry. Where an entry
    follows at once, only the marked packet itself may be damaged, which the decoder notices; between joined recordings
    it is whole.
    """
    marked = np.flatnonzero(packets.is_corrupt) + lag
    marked = marked[[place + 1 < len(packets.pts) and packets.whole_from[place + 1] == NEVER for place in marked]]
    given = np.sort(positions)
    altered = np.flatnonzero(surely)
    # A damaged packet that seems to give no picture may have given one; the picture before it is shown in its place.
    instead = given[np.maximum(np.searchsorted(given, np.setdiff1d(altered, given)) - 1, 0)]
    ahead = [place for end in altered.tolist() for place in _on_screen_instead(packets, end)]
    lost = np.unique(np.concatenate([marked, altered, instead, ahead])).astype(np.int64)
    if not len(lost):
        return frozenset()
    earlier = np.searchsorted(lost, positions, side="right")
    return frozenset(
        int(index)
        for index in np.flatnonzero(earlier)
        if packets.entry(int(positions[index])) <= lost[earlier[index] - 1]
    )


def _on_screen_instead(packets: Packets, end: int) -> list[int]:
    """Packets up to ``end`` whose pictures are on screen when lost pictures after it should be shown.

    No picture is shown before it is decoded, so lost pictures belong after the decoding time of the packet before them.
    """
    first = max(end - _REORDERED, 0)
    near = first + np.flatnonzero(packets.is_shown[first : end + 1])
    near = near[np.argsort(packets.pts[near])]
    stays_until = np.append(packets.pts[near][1:], NEVER)[: len(near)]
    found: list[int] = near[stays_until > packets.dts[end]].tolist()
    return found


def _without_picture(path: Path, stream: Any, packets: Packets) -> VideoError:
    if packets.is_shown.any():
        return UnsupportedVideoError(
            f"{path} has no key frame, nor any other picture at which decoding could begin",
            "record it again with a key frame at the start, or take a part of the recording that has one",
        )
    if stream.frames or not packets.reaches_end:
        return TruncatedVideoError(f"{path} ends before its first picture", FETCH_AGAIN)
    return EmptyVideoError(f"{path} has a video track without a single picture", FETCH_AGAIN)


def _first_picture(path: Path, file: Path, stream_index: int, packets: Packets) -> tuple[int, int, Orientation]:
    """Width, height and orientation, as shown, of the first picture that can be decoded whole."""
    import av

    entry = int(np.argmax(packets.whole_from != NEVER))
    failure = "it gives no picture"
    with open_container(file) as container:
        stream = container.streams[stream_index]
        decoder = stream.codec_context
        for place, packet in enumerate(
            packet for packet in container.demux(stream) if packet.size or packet.dts is None
        ):
            if place < entry:
                continue
            if place > entry + _FIRST_PICTURE:
                break
            try:
                # The packet without data at the end makes the decoder return the frames that it holds.
                for frame in decoder.decode(packet):
                    orientation = read_orientation(frame)
                    width, height = frame.width, frame.height
                    return (height, width, orientation) if orientation.swaps else (width, height, orientation)
            except av.FFmpegError as error:
                failure = error.strerror
                if packets.whole_from[entry] == packets.pts[entry]:
                    break  # at a recovery point, faults are normal until pictures are whole
    raise UnsupportedVideoError(
        f"{path}: the first picture cannot be decoded ({failure})", f"{FETCH_AGAIN}, or {convert(path)}"
    )


def is_animated_webp(file: Path) -> bool:
    """Whether the file header announces an animation (WebP Container Specification, extended file format)."""
    with file.open("rb") as opened:
        head = opened.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & 2)


def _unopenable(path: Path, error: Exception) -> VideoError:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return TruncatedVideoError(
            f"{path} is an MP4 file without its index, as an interrupted download leaves it", "fetch the file again"
        )
    return UnsupportedVideoError(
        f"{path} is not a video that FFmpeg can open ({getattr(error, 'strerror', None) or error})",
        "give the path of a video or a folder of images",
    )
