"""The packets of a video track: their times and flags, read without decoding a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Packets:
    """Arrays in decoding order, one element a packet, up to the place where the file cannot be read on."""

    pts: npt.NDArray[np.int64]
    """Presentation timestamps in the track's time base."""
    dts: npt.NDArray[np.int64]
    """Decoding timestamps in the same unit."""
    durations: npt.NDArray[np.int64]
    """In the same unit, 0 where unknown."""
    is_key: npt.NDArray[np.bool_]
    """Decoding can start here."""
    is_shown: npt.NDArray[np.bool_]
    """False for what an edit list cuts off, and for what is damaged on its face."""
    count: int
    """All packets of the track, also the empty ones that only repeat a picture."""
    has_times: bool
    """Whether each packet came with a timestamp at all."""
    reaches_end: bool
    """Whether the file could be read to its end."""
    last_second: float
    """Where the last packet of any track ends, in the container's seconds."""

    def usable(self) -> npt.NDArray[np.int64]:
        """Positions of the packets that give a picture, in order of presentation.

        What comes before the first key packet, or is shown before it, refers to pictures that are not in the file.
        """
        if not self.is_key.any():
            return np.zeros(0, dtype=np.int64)
        first = int(np.flatnonzero(self.is_key)[0])
        gives = self.is_shown & (np.arange(len(self.pts)) >= first) & (self.pts >= self.pts[first])
        positions = np.flatnonzero(gives)
        return positions[np.argsort(self.pts[positions], kind="stable")]

    def has_leading_pictures(self) -> bool:
        """Whether pictures are stored behind a key packet and shown before it, as in an open group of pictures."""
        keys = np.flatnonzero(self.is_key)
        return bool(len(keys)) and bool((np.minimum.reduceat(self.pts, keys) < self.pts[keys]).any())


def open_container(path: Path) -> Any:
    """A PyAV container of the file."""
    import av

    # Titles and tags in another encoding are no reason to refuse a video. PyAV 19 replaces what it cannot decode by
    # itself, and has no such argument any more.
    lenient = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
    return av.open(str(path), **lenient)


def packet_time(packet: Any) -> int:
    """Presentation timestamp; containers without one store pictures in the order of showing."""
    return int(packet.pts if packet.pts is not None else packet.dts)


def decoding_time(packet: Any) -> int:
    """Decoding timestamp."""
    return int(packet.dts if packet.dts is not None else packet.pts)


def read_packets(container: Any, stream: Any) -> Packets:
    """Go through the whole file once."""
    import av

    pts: list[int] = []
    dts: list[int] = []
    durations: list[int] = []
    is_key: list[bool] = []
    is_shown: list[bool] = []
    count, last_second, has_times, reaches_end = 0, 0.0, True, True
    try:
        for packet in container.demux():
            if packet.size == 0:
                count += packet.dts is not None and packet.stream_index == stream.index
                continue
            reaches_end = not packet.is_corrupt  # a cut leaves a part of a packet at the end
            if packet.dts is None and packet.pts is None:
                has_times = has_times and packet.stream_index != stream.index
                continue
            stamp = packet_time(packet)
            last_second = max(last_second, float((stamp + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index:
                continue
            count += 1
            pts.append(stamp)
            dts.append(decoding_time(packet))
            durations.append(packet.duration or 0)
            is_key.append(packet.is_keyframe)
            is_shown.append(not packet.is_discard and not packet.is_corrupt)
    except av.FFmpegError:
        reaches_end = False
    return Packets(
        pts=np.array(pts, dtype=np.int64),
        dts=np.array(dts, dtype=np.int64),
        durations=np.array(durations, dtype=np.int64),
        is_key=np.array(is_key, dtype=bool),
        is_shown=np.array(is_shown, dtype=bool),
        count=count,
        has_times=has_times,
        reaches_end=reaches_end,
        last_second=last_second,
    )
