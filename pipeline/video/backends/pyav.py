"""FFmpeg through PyAV: decodes only the packets that the wanted pictures depend on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import TruncatedVideoError
from pipeline.video.packets import decoding_time, open_container, packet_time
from pipeline.video.scan import Scan

# Codecs whose FFmpeg decoder can leave out, packet by packet, pictures that no other one refers to.
_CAN_SKIP = frozenset({"h264", "hevc"})
# Decoding so few unneeded packets costs less than emptying the decoder's threads and filling them again.
_WORTH_A_BREAK = 16
# Reading and dropping so many packets costs less than a seek.
_WORTH_A_SEEK = 300
# Whether a fault ends the decoding, or is patched over where the codec can.
_STRICT = {"err_detect": "explode"}
_LENIENT = {"err_detect": "crccheck"}


@dataclass
class _Run:
    """Packets ``first`` to ``last`` in decoding order, and the timestamps wanted of them, ascending."""

    first: int
    last: int
    wanted: list[int]


class _OutOfStepError(Exception):
    """The packets that come are not those of the scan."""


class PyAVDecoder:
    """One open file. Packets are found by their place in the scan, pictures by their timestamp."""

    name = "pyav"

    def __init__(self, scan: Scan, threads: int) -> None:
        """``threads`` for FFmpeg to decode with; 0 for one a core."""
        self._scan = scan
        self._threads = threads
        self._container: Any = None
        self._stream: Any = None
        self._packets: Iterator[Any] = iter(())
        self._next = 0  # position of the packet that comes next

    def close(self) -> None:
        """Free the decoder."""
        if self._container is not None:
            self._container.close()
        self._container = self._stream = None
        self._packets = iter(())

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As every decoder; the few pictures that the codec needs are in memory at a time."""
        done = 0
        for run in self._runs(indices):
            given = 0
            for picture in self._fast(run):
                given += 1
                yield picture
            if given < len(run.wanted):
                for rest in self._runs(indices[done + given : done + len(run.wanted)]):
                    yield from self._careful(rest)
            done += len(run.wanted)

    def _runs(self, indices: Sequence[int]) -> list[_Run]:
        """From the last key packet before each picture to the picture; runs that nearly touch are one."""
        runs: list[_Run] = []
        for index in indices:
            position = int(self._scan.positions[index])
            stamp = int(self._scan.packets.pts[position])
            first = self._scan.entry(index)
            if runs and first <= runs[-1].last + _WORTH_A_BREAK:
                runs[-1].last = max(runs[-1].last, position)
                runs[-1].wanted.append(stamp)
            else:
                runs.append(_Run(first, position, [stamp]))
        return runs

    def _fast(self, run: _Run) -> Iterator[npt.NDArray[np.uint8]]:
        """The wanted pictures in order; ends early, and quietly, at the first sign of trouble."""
        import av

        if self._container is None:
            self._open(self._threads, _STRICT)
        picked = _Picked(run.wanted)
        try:
            for frame in self._decoded(run, frozenset(run.wanted)):
                if frame.is_corrupt:
                    break
                for ready in picked.with_frame(frame):
                    yield self._shown(ready)
        except (av.FFmpegError, _OutOfStepError):
            pass
        if not picked.is_complete:
            self.close()

    def _decoded(self, run: _Run, wanted: frozenset[int]) -> Iterator[Any]:
        codec = self._stream.codec_context
        codec.flush_buffers()
        can_skip = self._scan.codec in _CAN_SKIP
        skips = False
        codec.skip_frame = "DEFAULT"
        for packet in self._read(run.first, run.last):
            if can_skip and skips != (packet_time(packet) not in wanted):
                skips = not skips
                codec.skip_frame = "NONREF" if skips else "DEFAULT"
            yield from codec.decode(packet)
        yield from codec.decode(None)

    def _careful(self, run: _Run) -> Iterator[npt.NDArray[np.uint8]]:
        """Find out which packet is damaged, give the wanted pictures that owe nothing to it, then raise.

        Strict decoding also stops at faults that do no harm: then there is no such packet, and all pictures are given.
        """
        import av

        pts = self._scan.packets.pts
        damaged = self._damaged_position(run)
        sound = run.wanted
        if damaged is not None:
            unsound_from = pts[damaged : run.last + 1].min()
            sound = [stamp for stamp in run.wanted if stamp < unsound_from]
        given = 0
        if sound:
            self._open(1, _LENIENT)
            picked = _Picked(sound)
            to_last = _Run(run.first, int(np.flatnonzero(np.isin(pts, sound)).max()), sound)
            with contextlib.suppress(av.FFmpegError, _OutOfStepError):
                for frame in self._decoded(to_last, frozenset(sound)):
                    for ready in picked.with_frame(frame):
                        given += 1
                        yield self._shown(ready)
        self.close()
        if given < len(run.wanted):
            raise TruncatedVideoError(
                f"{self._scan.path} is damaged: the picture at second {self._scan.second_of(run.wanted[given]):.3f} "
                "cannot be decoded",
                "fetch or copy the file again, or ask only for seconds before the damage",
            )

    def _damaged_position(self, run: _Run) -> int | None:
        """The first packet of a run that fails, or that gives no picture or one that the codec had to patch."""
        import av

        self._open(1, _LENIENT)
        codec = self._stream.codec_context
        pts, is_shown = self._scan.packets.pts, self._scan.packets.is_shown
        whole: set[int] = set()
        position = run.first
        try:
            for packet in self._read(run.first, run.last):
                whole.update(frame.pts for frame in codec.decode(packet) if not frame.is_corrupt)
                position += 1
        except (av.FFmpegError, _OutOfStepError):
            pass
        with contextlib.suppress(av.FFmpegError):
            whole.update(frame.pts for frame in codec.decode(None) if not frame.is_corrupt)
        # Pictures that lead the first key cannot be decoded from it, and are not asked for.
        for tried in range(run.first, position):
            if (
                is_shown[tried]
                and pts[tried] >= self._scan.packets.whole_from[run.first]
                and int(pts[tried]) not in whole
            ):
                return tried
        return position if position <= run.last else None

    def _open(self, threads: int, detection: dict[str, str]) -> None:
        self.close()
        self._container = open_container(self._scan.file)
        self._stream = self._container.streams[self._scan.stream_index]
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = threads
        self._stream.codec_context.options = detection
        self._packets = self._container.demux(self._stream)
        self._next = 0

    def _read(self, first: int, last: int) -> Iterator[Any]:
        """Packets ``first`` to ``last``, each checked against the scan."""
        if first < self._next or first - self._next > _WORTH_A_SEEK:
            self._seek(first)
        for packet in self._packets:
            if packet.size == 0:
                continue
            position = self._next
            if (
                position == len(self._scan.packets.pts)
                or packet_time(packet) != self._scan.packets.stored_pts[position]
            ):
                raise _OutOfStepError
            packet.pts = int(self._scan.packets.pts[position])  # on the clock of the scan
            self._next += 1
            if position >= first:
                yield packet
            if position == last:
                return
        raise _OutOfStepError

    def _seek(self, position: int) -> None:
        """Come to stand at or before a packet; from the beginning where the container's own index misleads."""
        scan = self._scan
        by_pts = "matroska" in scan.container
        target = int((scan.packets.stored_pts if by_pts else scan.packets.stored_dts)[position])
        self._container.seek(target, stream=self._stream, backward=True, any_frame=False)
        packets = self._container.demux(self._stream)
        first = next((packet for packet in packets if packet.size), None)
        if first is not None:
            here = np.flatnonzero(
                (scan.packets.stored_pts == packet_time(first)) & (scan.packets.stored_dts == decoding_time(first))
            )
            if len(here) == 1 and here[0] <= position:
                self._packets = chain((first,), packets)
                self._next = int(here[0])
                return
        self._open(self._threads, _STRICT)

    def _shown(self, frame: Any) -> npt.NDArray[np.uint8]:
        return as_shown(frame, self._scan)


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
