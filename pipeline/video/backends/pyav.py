"""Decodes with FFmpeg through PyAV, and only the packets that the wanted pictures depend on."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import TruncatedVideoError
from pipeline.video.backends.pyav_codec import DamagedPacketError, TrackCodec
from pipeline.video.backends.pyav_packets import OutOfStepError, PacketReader
from pipeline.video.failures import convert
from pipeline.video.scan import Scan

# Codecs whose FFmpeg decoder can skip, packet by packet, pictures that no other picture refers to.
_CAN_SKIP = frozenset({"h264", "hevc"})
# Decoding up to this many unneeded packets costs less than emptying the decoder's threads and filling them again.
_WORTH_A_BREAK = 16


@dataclass
class _Run:
    """Packets ``first`` to ``last`` in decoding order, and the timestamps wanted of them, ascending."""

    first: int
    last: int
    wanted: list[int]


class PyAVDecoder:
    """One open file. Packets are found by their position in the scan, pictures by their timestamp."""

    name = "pyav"

    def __init__(self, scan: Scan, threads: int) -> None:
        """``threads`` is FFmpeg's number of threads; 0 for one per core."""
        self._scan = scan
        self._threads = threads
        self._opened: tuple[PacketReader, TrackCodec] | None = None
        self.walked = 0

    def packets_to(self, indices: Sequence[int]) -> int:
        """As :class:`Decoder`."""
        return self._scan.packets_to(indices)

    def close(self) -> None:
        """Free the decoder."""
        if self._opened is not None:
            self._opened[0].close()
        self._opened = None

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As :class:`Decoder`; only the few pictures that the codec needs are in memory at a time."""
        given = 0
        while given < len(indices):
            run = self._run(indices, given, _WORTH_A_BREAK)
            last = given + len(run.wanted)
            for picture in self._fast(run):
                given += 1
                yield picture
            if given < last:
                for picture in self._careful(self._run(indices, given, 0)):
                    given += 1
                    yield picture

    def _run(self, indices: Sequence[int], start: int, worth_a_break: int) -> _Run:
        """The packets from the last entry before a picture to that picture, and on to the next ones.

        The run ends where decoding can start again more than ``worth_a_break`` packets later, and where a new sequence
        begins.
        """
        run: _Run | None = None
        for at in range(start, len(indices)):
            index = indices[at]
            position = int(self._scan.positions[index])
            stamp = int(self._scan.packets.pts[position])
            first = self._scan.entry(index)
            if run is None:
                run = _Run(first, position, [stamp])
            elif first > run.last + worth_a_break or self._scan.packets.is_apart(run.first, first):
                break
            else:
                run.last = max(run.last, position)
                run.wanted.append(stamp)
        assert run is not None
        return run

    def _fast(self, run: _Run) -> Iterator[npt.NDArray[np.uint8]]:
        """The wanted pictures in order. Ends early, without an error, at the first sign of damage."""
        if self._opened is None:
            self._opened = opened(self._scan, self._threads)
        picked = _Picked(run.wanted)
        with ends_at_trouble():
            for frame in self._decoded(run, *self._opened):
                for ready in picked.with_frame(frame):
                    yield as_shown(ready, self._scan)
        if not picked.is_complete:
            self.close()

    def _decoded(self, run: _Run, packets: PacketReader, codec: TrackCodec) -> Iterator[Any]:
        codec.flush()
        known = self._scan.packets
        # Some writers store B-frames without presentation times.
        is_out_of_order = self._scan.has_b_frames and bool((known.pts == known.dts).all())
        skips = self._scan.codec in _CAN_SKIP or is_out_of_order
        for frame in (self._without_unreferenced if skips else self._without_gaps)(run, packets, codec):
            self.walked += 1
            yield frame

    def _without_unreferenced(self, run: _Run, packets: PacketReader, codec: TrackCodec) -> Iterator[Any]:
        wanted = frozenset(run.wanted)
        skips = False
        for packet in packets.read(run.first, run.last):
            if skips != (packet.pts not in wanted):
                skips = not skips
                codec.skip_unreferenced(skips)
            yield from codec.decode(packet)
        yield from codec.drain()

    def _without_gaps(self, run: _Run, packets: PacketReader, codec: TrackCodec) -> Iterator[Any]:
        """All frames, up to the first that is missing although its packet was read: later ones may refer to it."""
        due = deque(self._due(run))
        for packet in chain(packets.read(run.first, run.last), (None,)):
            for frame in codec.drain() if packet is None else codec.decode(packet):
                if due and due[0] < frame.pts:
                    raise DamagedPacketError
                if due and due[0] == frame.pts:
                    due.popleft()
                yield frame

    def _due(self, run: _Run) -> list[int]:
        """Timestamps of the pictures that the packets of a run give, ascending.

        Leading pictures of the first entry cannot be decoded from it and are not expected.
        """
        known = self._scan.packets
        there = slice(run.first, run.last + 1)
        shown = known.is_shown[there] & (known.pts[there] >= known.whole_from[run.first])
        return sorted(known.pts[there][shown].tolist())

    def _careful(self, run: _Run) -> Iterator[npt.NDArray[np.uint8]]:
        """Find the damaged packet, yield the wanted pictures that do not depend on it, then raise.

        Strict decoding also stops at harmless faults: then there is no damaged packet, and all pictures are yielded.
        """
        pts = self._scan.packets.pts
        damaged = self._damaged_position(run)
        sound = run.wanted
        if damaged is not None:
            unsound_from = pts[damaged : run.last + 1].min()
            sound = [stamp for stamp in run.wanted if stamp < unsound_from]
        given = 0
        if sound:
            to_last = _Run(run.first, int(np.flatnonzero(np.isin(pts, sound)).max()), sound)
            picked = _Picked(sound)
            packets, codec = opened(self._scan, 1, is_patient=True)
            with contextlib.closing(packets), ends_at_trouble():
                for frame in self._decoded(to_last, packets, codec):
                    for ready in picked.with_frame(frame):
                        given += 1
                        yield as_shown(ready, self._scan)
        if given < len(run.wanted):
            raise damage(self._scan, f"the picture at second {self._scan.second_of(run.wanted[given]):.3f}")

    def _damaged_position(self, run: _Run) -> int | None:
        """The first packet of a run that fails, gives no picture, or gives one that the codec had to patch."""
        packets, codec = opened(self._scan, 1, is_patient=True)
        known = self._scan.packets
        whole: set[int] = set()
        position = run.first
        with contextlib.closing(packets):
            with ends_at_trouble():
                for packet in packets.read(run.first, run.last):
                    whole.update(frame.pts for frame in codec.decode(packet) if not frame.is_corrupt)
                    position += 1
            with ends_at_trouble():
                whole.update(frame.pts for frame in codec.drain() if not frame.is_corrupt)
        lost = frozenset(self._due(run)) - whole
        for tried in range(run.first, position):
            if known.is_shown[tried] and int(known.pts[tried]) in lost:
                return tried
        return position if position <= run.last else None


@contextlib.contextmanager
def ends_at_trouble() -> Iterator[None]:
    """End the block quietly where a file cannot be decoded any further."""
    import av

    with contextlib.suppress(av.FFmpegError, OutOfStepError, DamagedPacketError):
        yield


def opened(scan: Scan, threads: int, is_patient: bool = False) -> tuple[PacketReader, TrackCodec]:
    """A reader of a scanned file's packets, and a decoder for them."""
    packets = PacketReader(scan)
    return packets, TrackCodec(packets.stream, threads, is_patient)


def damage(scan: Scan, what: str) -> TruncatedVideoError:
    """The error for a file in which ``what`` cannot be decoded."""
    return TruncatedVideoError(
        f"{scan.path} is damaged: {what} cannot be decoded",
        f"fetch or copy the file again, or ask only for seconds before the damage; where it plays well, "
        f"{convert(scan.path)}",
    )


def as_shown(frame: Any, scan: Scan) -> npt.NDArray[np.uint8]:
    """RGB ``[scan.height, scan.width, 3]``. If a stream changes its size, its first size is used, as in players."""
    width, height = (scan.height, scan.width) if scan.orientation.swaps else (scan.width, scan.height)
    pixels: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24", width=width, height=height)
    return scan.orientation.show(pixels)


class _Picked:
    """Puts wanted frames into order of time, in case a decoder returns them out of order."""

    def __init__(self, wanted: Sequence[int]) -> None:
        self._waiting = list(reversed(wanted))
        self._wanted = frozenset(wanted)
        self._held: dict[int, Any] = {}

    @property
    def is_complete(self) -> bool:
        return not self._waiting

    def with_frame(self, frame: Any) -> list[Any]:
        """Add a frame, and return the wanted frames that are due now."""
        if frame.pts in self._wanted:
            self._held[frame.pts] = frame
        due = []
        while self._waiting and self._waiting[-1] in self._held:
            due.append(self._held.pop(self._waiting.pop()))
        return due
