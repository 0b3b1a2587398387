"""The packets of a video track: their times and the findings from their headers, read without decoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.video.demuxing import is_cover, look_at
from pipeline.video.headers.signs import (
    BEGINS,
    ENTRY,
    INTRA,
    RECOVERY_SHIFT,
    REFERENCE,
    SECOND_FIELD,
    SEVERAL,
    SHOWN,
    SKIPPABLE,
)
from pipeline.video.parts import read_in_parts
from pipeline.video.record import OtherTrack, Record, Track, TrackTimes

NEVER = np.iinfo(np.int64).max
"""The stamp from which pictures are whole, where decoding cannot start."""


@dataclass(frozen=True)
class Packets:
    """Arrays in decoding order, one element per packet, up to where the file can be read."""

    pts: npt.NDArray[np.int64]
    """Presentation timestamps in the track's time base, on one clock: no two pictures share one."""
    dts: npt.NDArray[np.int64]
    """Decoding timestamps in the same unit."""
    stored_pts: npt.NDArray[np.int64]
    """As stored, by :func:`packet_time`: where recordings were joined, they start again in the middle."""
    stored_dts: npt.NDArray[np.int64]
    """As stored, by :func:`decoding_time`."""
    durations: npt.NDArray[np.int64]
    """In the same unit, 0 where unknown."""
    whole_from: npt.NDArray[np.int64]
    """The timestamp from which all pictures are whole if decoding starts here; :data:`NEVER` where it cannot."""
    begins: npt.NDArray[np.bool_]
    """Whether a new sequence begins at the packet. Decoders may then drop earlier pictures that they still hold."""
    is_shown: npt.NDArray[np.bool_]
    """Whether the packet gives a picture. Packets cut off by an edit list and pure references do not."""
    is_cut: npt.NDArray[np.bool_]
    """Whether an edit list cuts the packet off. It may still have to be decoded, and its times mean nothing."""
    is_corrupt: npt.NDArray[np.bool_]
    """Whether the container says that parts of the packet, or of the one next to it, are lost or damaged."""
    places: npt.NDArray[np.int64]
    """Where each packet begins in the file, in bytes; -1 where that is not known."""
    has_dts: npt.NDArray[np.bool_]
    """Whether the packet has a decoding timestamp."""
    has_order: bool
    """Whether the container stores presentation times. If not, ``pts`` and ``whole_from`` are decoding times."""
    claims_are_true: bool
    """Whether decoding can start at each packet that the container marks as a key."""
    count: int
    """Number of packets of the track, including empty ones that only repeat a picture."""
    has_times: bool
    """Whether each packet came with a timestamp at all."""
    reaches_end: bool
    """Whether the file could be read to its end."""
    last_empty: int
    """The end of the last empty packet, which repeats the picture before it; a very low number if there is none."""
    others: Mapping[int, npt.NDArray[np.float64]]
    """Start times of the packets of the other video and audio tracks by their index, in the container's seconds."""
    first_second: float
    """Start of the first packet of any video or audio track, in the container's seconds."""
    is_joined: bool
    """Whether the file holds several recordings, each with its own clock."""
    last_second: float
    """End of the last packet of any track, in the container's seconds."""

    def usable(self) -> npt.NDArray[np.int64]:
        """Positions of the packets that give a whole picture, in order of presentation.

        Packets before the first entry, or shown before pictures are whole, refer to pictures that are not in the file.
        """
        gives = self.is_shown & (np.minimum.accumulate(self.whole_from) <= self.pts)
        positions = np.flatnonzero(gives)
        return positions[np.argsort(self.pts[positions], kind="stable")]

    def entry(self, position: int) -> int:
        """The last packet from which decoding gives the picture of the packet at ``position`` whole."""
        place = int(np.searchsorted(self._entries, position, side="right")) - 1
        while self.whole_from[self._entries[place]] > self.pts[position]:
            place -= 1
        return int(self._entries[place])

    def is_apart(self, first: int, later: int) -> bool:
        """Whether a new sequence begins after the packet ``first``, at ``later`` or before."""
        return bool(self.begins[first + 1 : later + 1].any())

    @cached_property
    def _entries(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self.whole_from != NEVER)

    def has_leading_pictures(self) -> bool:
        """Whether pictures are stored after an entry and shown before it, as in an open group of pictures."""
        entries = self._entries
        return bool(len(entries)) and bool((np.minimum.reduceat(self.pts, entries) < self.pts[entries]).any())


def packet_time(packet: Any) -> int:
    """Presentation timestamp; containers without one store pictures in presentation order."""
    return int(packet.pts if packet.pts is not None else packet.dts)


def decoding_time(packet: Any) -> int:
    """Decoding timestamp."""
    return int(packet.dts if packet.dts is not None else packet.pts)


def read_packets(file: Path, container: Any, stream: Any) -> Packets:
    """Read the whole file once. The codec's headers are believed where the container contradicts them."""
    import av

    quick = read_in_parts(file, container, stream)
    if quick is not None:
        return _packets(container, stream, *quick, reaches_end=True)
    mine = stream.index
    track = Track(look_at(stream))
    others = {each.index: OtherTrack() for each in container.streams}
    last: Any = None
    try:
        for packet in container.demux():
            if packet.stream_index != mine:
                if packet.size:
                    last = packet
                    others[packet.stream_index].note(packet)
            elif packet.size:
                last = packet
                track.note(packet)
            else:
                track.note_empty(packet)
        reaches_end = last is None or not last.is_corrupt  # a cut leaves a part of a packet at the end
    except av.FFmpegError:
        reaches_end = False
    times = {index: each.times() for index, each in others.items()}
    return _packets(container, stream, track.record(), times, reaches_end)


def _packets(
    container: Any, stream: Any, record: Record, others: Mapping[int, TrackTimes], reaches_end: bool
) -> Packets:
    has_times = bool((record.has_pts | record.has_dts).all())
    there = slice(None if has_times else 0)
    stored = np.where(record.has_pts, record.pts, record.dts)[there]
    decoding = np.where(record.has_dts, record.dts, record.pts)[there]
    signs, durations = record.signs[there], record.durations[there]
    # AVI stores only decoding order; the presentation times from FFmpeg are a guess where pictures are reordered.
    is_guessed = container.format.name == "avi" and stream.codec_context.has_b_frames
    is_second = (signs & SECOND_FIELD).astype(bool)
    is_timed = bool((record.has_pts[there] | is_second).all())
    has_order = is_timed and not is_guessed and not (signs & SEVERAL).any()
    stamps = stored if has_order else decoding
    if is_second.any():  # the second field completes the picture, which has the time of the first
        stamps = np.where(is_second, np.roll(stamps, 1), stamps)
        durations = np.where(is_second, np.roll(durations, 1) + durations, durations)
    whole_from = _whole_from(stamps, signs)
    claimed = np.flatnonzero(record.is_key[there])
    discarded = record.is_discarded[there]
    is_shown = _without_skipped((signs & SHOWN).astype(bool) & ~discarded, signs)
    is_shown[:-1] &= ~is_second[1:]
    corrupt = record.is_corrupt[there]
    if not reaches_end:
        is_shown[-1:] &= ~corrupt[-1:]
    tracks = {each.index: each for each in container.streams}
    times: dict[int, npt.NDArray[np.float64]] = {
        index: np.multiply(each.stamps, float(tracks[index].time_base), dtype=np.float64)
        for index, each in others.items()
        if tracks[index].type in ("video", "audio") and len(each.stamps) and not is_cover(tracks[index])
    }
    firsts = [float(each[0]) for each in times.values()]
    lasts = [
        float((int(each.stamps.max()) + each.last_duration) * tracks[index].time_base)
        for index, each in others.items()
        if len(each.stamps)
    ]
    tick = float(stream.time_base)
    return Packets(
        pts=stamps,
        dts=decoding,
        stored_pts=stored,
        stored_dts=decoding,
        durations=durations,
        whole_from=whole_from,
        begins=(signs & BEGINS).astype(bool),
        is_shown=is_shown,
        is_cut=discarded,
        is_corrupt=corrupt,
        places=record.places[there],
        has_dts=record.has_dts[there],
        has_order=bool(has_order),
        claims_are_true=bool((whole_from[claimed] == stamps[claimed]).all()),
        count=len(record.pts) + record.empty,
        has_times=has_times,
        reaches_end=reaches_end,
        last_empty=record.last_empty,
        others=times,
        first_second=min([*firsts, *(stored[~discarded][:1] * tick).tolist()], default=0.0),
        is_joined=False,
        last_second=max([*lasts, float((stored + durations).max(initial=0)) * tick]),
    )


def _whole_from(pts: npt.NDArray[np.int64], signs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each packet the timestamp from which pictures are whole if decoding starts there.

    Without any entry, decoding starts at the first intra picture and nowhere else.
    """
    whole_from = np.where(signs & ENTRY, pts, NEVER)
    recovery = next(iter(np.flatnonzero(signs >> RECOVERY_SHIFT)), None)
    # FFmpeg does not manage every recovery, so only a recording that begins with one is decoded from there.
    if recovery is not None and not (signs[:recovery] & ENTRY).any():
        references = np.flatnonzero(signs[recovery + 1 :] & REFERENCE)
        count = int(signs[recovery]) >> RECOVERY_SHIFT
        if count <= len(references):
            whole_from[recovery] = pts[recovery + references[count - 1] + 1]
    if (whole_from == NEVER).all():
        first = np.flatnonzero(signs & INTRA)[:1]
        whole_from[first] = pts[first]
    return whole_from


def _without_skipped(is_shown: npt.NDArray[np.bool_], signs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Clear the flags of leading pictures that decoders skip: those after an entry that begins a new sequence."""
    skips = False
    for place, found in enumerate(signs.tolist() if (signs & SKIPPABLE).any() else ()):
        if found & ENTRY:
            skips = bool(found & BEGINS)
        elif skips and found & SKIPPABLE:
            is_shown[place] = False
    return is_shown
