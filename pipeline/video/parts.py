"""Reads the packets of one file in several processes at once, where the file's index says exactly what there is.

Only for H.264 in MP4 and QuickTime files, which most videos are, and only where everything is as the index says: each
part begins at an entry and ends where the next one begins, no packet is missing, and nothing is damaged. What comes out
is then what reading from beginning to end gives. Anything else is read from beginning to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pipeline.video.demuxing import look_at, open_container
from pipeline.video.headers.nal import may_hold_fields
from pipeline.video.headers.signs import ENTRY
from pipeline.video.record import OtherTrack, Record, Track, TrackTimes, joined

_PACKETS = 4096
"""The fewest in a part: opening an hour's file takes as long as reading so many."""
_KEY = 1
"""AVINDEX_KEYFRAME of FFmpeg's libavformat/avformat.h."""

Stamp = tuple[int, int]
"""Of a packet: its place in the file, and its decoding time."""


class Forks(Protocol):
    """Runs pieces of work at once, each in a process."""

    @property
    def most(self) -> int:
        """Processes."""
        ...

    def __call__(self, works: Sequence[Callable[[], Any]]) -> list[Any] | None:
        """What each piece gives, in order; None if one of them failed."""
        ...


_forks: ContextVar[Forks | None] = ContextVar("forks", default=None)


@contextmanager
def reading_with(forks: Forks) -> Iterator[None]:
    """Within this context, files are read in parts where they can be."""
    token = _forks.set(forks)
    try:
        yield
    finally:
        _forks.reset(token)


def read_in_parts(file: Path, container: Any, stream: Any) -> tuple[Record, Mapping[int, TrackTimes]] | None:
    """What there is of the track ``stream`` and of the others; None where the file has to be read in one piece."""
    forks = _forks.get()
    index = getattr(stream, "index_entries", None)  # PyAV 15 has none
    if forks is None or index is None or not _is_indexed(container, stream, len(index)):
        return None
    begins = _begins(index, min(forks.most, len(index) // _PACKETS))
    if len(begins) < 2:
        return None
    bounds = zip(begins, [*begins[1:], None], strict=True)
    works: list[Callable[[], Any]] = [partial(_part, file, stream.index, first, last) for first, last in bounds]
    if len(container.streams) > 1:
        works.append(partial(_others, file, stream.index))
    found = forks(works)
    if found is None or None in found:
        return None
    record, others = joined(found[: len(begins)]), found[len(begins)] if len(works) > len(begins) else {}
    return (record, others) if len(record.pts) + record.empty == len(index) else None


def _is_indexed(container: Any, stream: Any, entries: int) -> bool:
    """Whether the file has an index of all packets, in which nothing is out of the ordinary."""
    codec = stream.codec_context
    return (
        "mp4" in container.format.name.split(",")
        and codec.codec.canonical_name == "h264"
        and entries == stream.frames
        and not may_hold_fields(bytes(codec.extradata or b""))
    )


def _begins(index: Any, parts: int) -> list[Stamp]:
    """Where parts of about the same number of packets begin, each at a packet that the container marks as a key."""
    places: list[int] = []
    for part in range(parts):
        place = max(part * len(index) // parts, places[-1] + 1 if places else 0)
        while place < len(index) and not index[place].flags & _KEY:
            place += 1
        if place == len(index):
            break
        places.append(place)
    return [(index[place].pos, index[place].timestamp) for place in places] if places[:1] == [0] else []


def _part(file: Path, number: int, first: Stamp, last: Stamp | None) -> Record | None:
    """The packets of the track from ``first`` to the one before ``last``; None if anything is unexpected."""
    with open_container(file) as container:
        stream = container.streams[number]
        _leave_out(container, lambda each: each is not stream)
        container.seek(first[1], stream=stream, backward=True, any_frame=False)
        track, has_begun, has_ended = Track(look_at(stream)), False, False
        for packet in container.demux(stream):
            stamp = (packet.pos, packet.dts)
            has_begun = has_begun or stamp == first
            has_ended = has_ended or stamp == last
            if has_ended:
                break
            if has_begun and packet.size:
                track.note(packet)
            elif has_begun:
                track.note_empty(packet)
    record = track.record()
    is_whole = has_begun and has_ended == (last is not None) and not record.is_corrupt.any()
    # What follows an entry does not depend on what was read before it.
    is_apart = bool(len(record.signs)) and bool(record.signs[0] & ENTRY)
    return record if is_whole and is_apart and record.has_pts.all() and record.has_dts.all() else None


def _others(file: Path, number: int) -> Mapping[int, TrackTimes] | None:
    """The packets of all other tracks."""
    with open_container(file) as container:
        _leave_out(container, lambda each: each.index == number)
        found = {each.index: OtherTrack() for each in container.streams}
        for packet in container.demux([each for each in container.streams if each.index != number]):
            if packet.is_corrupt:
                return None
            if packet.size:
                found[packet.stream_index].note(packet)
    return {index: each.times() for index, each in found.items()}


def _leave_out(container: Any, which: Callable[[Any], bool]) -> None:
    """Have the demuxer skip tracks, so that their packets are not even read."""
    from av.stream import Discard

    for each in container.streams:
        if which(each):
            each.discard = Discard.all
