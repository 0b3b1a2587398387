"""What is recorded of the packets of a file while it is read: their stamps, marks and places, and what headers say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

_NONE = np.iinfo(np.int64).min
"""In a column of stamps: there is none."""
_COLUMNS = 8


@dataclass(frozen=True)
class Record:
    """Arrays in decoding order, one element per packet of a track that is not empty."""

    pts: npt.NDArray[np.int64]
    """As stored; meaningless where :attr:`has_pts` is false."""
    has_pts: npt.NDArray[np.bool_]
    dts: npt.NDArray[np.int64]
    """Likewise."""
    has_dts: npt.NDArray[np.bool_]
    durations: npt.NDArray[np.int64]
    """0 where unknown."""
    signs: npt.NDArray[np.int64]
    """What the codec's headers say of each packet."""
    is_key: npt.NDArray[np.bool_]
    """Whether the container marks the packet as a key."""
    is_discarded: npt.NDArray[np.bool_]
    is_corrupt: npt.NDArray[np.bool_]
    places: npt.NDArray[np.int64]
    """Where each packet begins in the file; -1 where that is not known."""
    empty: int
    """Number of empty packets, which only repeat a picture."""
    last_empty: int
    """The end of the last one; a very low number if there is none."""


@dataclass(frozen=True)
class TrackTimes:
    """When the packets of another track come."""

    stamps: npt.NDArray[np.int64]
    last_duration: int
    """Of the last packet; 0 where unknown."""


class Track:
    """Collects a record.

    Args:
        look: from a packet, and whether the container marks it as a key, to its signs.
    """

    def __init__(self, look: Callable[[Any, bool], int]) -> None:
        self._look = look
        self._rows: list[tuple[int, ...]] = []
        self._empty = 0
        self._last_empty = -(1 << 62)

    def note(self, packet: Any) -> None:
        """Record a packet that is not empty."""
        # There are a hundred thousand in an hour of video.
        pts, dts, place, key = packet.pts, packet.dts, packet.pos, packet.is_keyframe
        self._rows.append(
            (
                _NONE if pts is None else pts,
                _NONE if dts is None else dts,
                packet.duration or 0,
                self._look(packet, key),
                key,
                packet.is_discard,
                packet.is_corrupt,
                -1 if place is None else place,
            )
        )

    def note_empty(self, packet: Any) -> None:
        """Record an empty packet, which keeps the picture before it on screen. The one that ends the file has no
        time.
        """
        if packet.dts is not None:
            self._empty += 1
            shown = packet.dts if packet.pts is None else packet.pts
            self._last_empty = max(self._last_empty, shown + (packet.duration or 0))

    def record(self) -> Record:
        """What was noted."""
        pts, dts, durations, signs, *flags, places = np.array(self._rows, dtype=np.int64).reshape(-1, _COLUMNS).T
        is_key, is_discarded, is_corrupt = (column.astype(bool) for column in flags)
        return Record(
            pts=pts,
            has_pts=pts != _NONE,
            dts=dts,
            has_dts=dts != _NONE,
            durations=durations,
            signs=signs,
            is_key=is_key,
            is_discarded=is_discarded,
            is_corrupt=is_corrupt,
            places=places,
            empty=self._empty,
            last_empty=self._last_empty,
        )


@dataclass
class OtherTrack:
    """Collects the times of another track."""

    stamps: list[int] = field(default_factory=list)
    last_duration: int = 0

    def note(self, packet: Any) -> None:
        """Record a packet."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is not None and (self.stamps or not packet.is_discard):  # an encoder's delay is cut off
            self.stamps.append(stamp)
            self.last_duration = packet.duration or 0

    def times(self) -> TrackTimes:
        """What was noted."""
        return TrackTimes(np.array(self.stamps, dtype=np.int64), self.last_duration)


def joined(records: Sequence[Record]) -> Record:
    """Records of parts of a track that follow each other."""
    arrays = {
        each.name: np.concatenate([getattr(record, each.name) for record in records])
        for each in fields(Record)
        if each.name not in ("empty", "last_empty")
    }
    empty, last = sum(record.empty for record in records), max(record.last_empty for record in records)
    return Record(**arrays, empty=empty, last_empty=last)
