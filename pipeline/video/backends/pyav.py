"""FFmpeg through PyAV: decodes only the packets that the wanted pictures depend on."""

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

# Codecs whose FFmpeg decoder can leave out, packet by packet, pictures that no other one refers to.
_CAN_SKIP = frozenset({"h264", "hevc"})
# Decoding so few unneeded packets costs less than emptying the decoder's threads and filling them again.
_WORTH_A_BREAK = 16


@dataclass
class _Run:
    """Packets ``first`` to ``last`` in decoding order, and the timestamps wanted of them, ascending."""

    first: int
    last: int
    wanted: list[int]


class PyAVDecoder:
    """One open file. Packets are found by their place in the scan, pictures by their timestamp."""

    name = "pyav"

    def __init__(self, scan: Scan, threads: int) -> None:
        """``threads`` for FFmpeg to decode with; 0 for one a core."""
        self._scan = scan
        self._threads = threads
        self._opened: tuple[PacketReader, TrackCodec] | None = None

    def close(self) -> None:
        """Free the decoder."""
        if self._opened is not None:
            self._opened[0].close()
        self._opened = None

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As every decoder; the few pictures that the codec needs are in memory at a time."""
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
        """From the last entry before a picture to that picture, and on to the next ones.

        Another run begins where decoding begins anew more than ``worth_a_break`` packets after this one, and where a
        sequence of its own begins.
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
        """The wanted pictures in order; ends early, and quietly, at the first sign of trouble."""
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
        # Some writers store B-frames without the order in which they are shown.
        is_out_of_order = self._scan.has_b_frames and bool((known.pts == known.dts).all())
        if self._scan.codec in _CAN_SKIP or is_out_of_order:
            yield from self._without_unreferenced(run, packets, codec)
        else:
            yield from self._without_gaps(run, packets, codec)

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
        """All frames, up to the first that does not come though its packet did: later ones may refer to it."""
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

        Pictures that lead the first entry cannot be decoded from it, and are not asked for.
        """
        known = self._scan.packets
        there = slice(run.first, run.last + 1)
        shown = known.is_shown[there] & (known.pts[there] >= known.whole_from[run.first])
        return sorted(known.pts[there][shown].tolist())

    def _careful(self, run: _Run) -> Iterator[npt.NDArray[np.uint8]]:
        """Find out which packet is damaged, give the wanted pictures that owe nothing to it, then raise.

        Strict decoding also stops at faults that do no harm: then there is no such packet, and all pictures are given.
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
        """The first packet of a run that fails, or that gives no picture or one that the codec had to patch."""
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
    """End a block, and nothing more, where a file cannot be decoded on."""
    import av

    with contextlib.suppress(av.FFmpegError, OutOfStepError, DamagedPacketError):
        yield


def opened(scan: Scan, threads: int, is_patient: bool = False) -> tuple[PacketReader, TrackCodec]:
    """The packets of a scanned file, and a decoder for them."""
    packets = PacketReader(scan)
    return packets, TrackCodec(packets.stream, threads, is_patient)


def damage(scan: Scan, what: str) -> TruncatedVideoError:
    """The error of a file of which ``what`` cannot be decoded as it was."""
    return TruncatedVideoError(
        f"{scan.path} is damaged: {what} cannot be decoded",
        f"fetch or copy the file again, or ask only for seconds before the damage; where it plays well, "
        f"{convert(scan.path)}",
    )


def as_shown(frame: Any, scan: Scan) -> npt.NDArray[np.uint8]:
    """RGB ``[scan.height, scan.width, 3]``. Where a stream changes its size, its first size holds, as in players."""
    width, height = (scan.height, scan.width) if scan.orientation.swaps else (scan.width, scan.height)
    pixels: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24", width=width, height=height)
    return scan.orientation.show(pixels)


class _Picked:
    """Puts wanted frames into order of time, should a decoder hand them out of it."""

    def __init__(self, wanted: Sequence[int]) -> None:
        self._waiting = list(reversed(wanted))
        self._wanted = frozenset(wanted)
        self._held: dict[int, Any] = {}

    @property
    def is_complete(self) -> bool:
        return not self._waiting

    def with_frame(self, frame: Any) -> list[Any]:
        """The frames that are due now that this one is here."""
        if frame.pts in self._wanted:
            self._held[frame.pts] = frame
        due = []
        while self._waiting and self._waiting[-1] in self._held:
            due.append(self._held.pop(self._waiting.pop()))
        return due
