"""Reads a track's packets through PyAV, by their position in the scan."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from pipeline.video.demuxing import open_container
from pipeline.video.packets import decoding_time, packet_time
from pipeline.video.scan import Scan

# Reading and dropping up to this many packets costs less than a seek.
_WORTH_A_SEEK = 300


class OutOfStepError(Exception):
    """The packets read differ from those of the scan."""


class PacketReader:
    """One open file and the position in it."""

    def __init__(self, scan: Scan) -> None:
        """Open the file of the scan."""
        self._scan = scan
        self._packets: Iterator[Any]
        self._next: int  # position of the packet that comes next
        self._open()

    @property
    def stream(self) -> Any:
        """PyAV's stream, with a codec context of its own until :meth:`read` is called."""
        return self._stream

    def close(self) -> None:
        """Free the container."""
        self._packets = iter(())
        self._container.close()

    def read(self, first: int, last: int) -> Iterator[Any]:
        """Packets ``first`` to ``last``, each checked against the scan.

        Raises:
            OutOfStepError: other packets are read.
        """
        if first < self._next or first - self._next > _WORTH_A_SEEK:
            self._seek(first)
        known = self._scan.packets
        for packet in self._packets:
            if packet.size == 0:
                continue
            position = self._next
            if position == len(known.pts) or packet_time(packet) != known.stored_pts[position]:
                raise OutOfStepError
            packet.pts = int(known.pts[position])  # on the clock of the scan
            self._next += 1
            if position >= first:
                yield packet
            if position == last:
                return
        raise OutOfStepError

    def _open(self) -> None:
        self._container = open_container(self._scan.file)
        self._stream = self._container.streams[self._scan.stream_index]
        self._packets = self._container.demux(self._stream)
        self._next = 0

    def _seek(self, position: int) -> None:
        """Seek to a packet or before it; start from the beginning if the container's index is wrong."""
        known = self._scan.packets
        by_pts = "matroska" in self._scan.container
        target = int((known.stored_pts if by_pts else known.stored_dts)[position])
        self._container.seek(target, stream=self._stream, backward=True, any_frame=False)
        packets = self._container.demux(self._stream)
        first = next((packet for packet in packets if packet.size), None)
        if first is not None:
            here = np.flatnonzero((known.stored_pts == packet_time(first)) & (known.stored_dts == decoding_time(first)))
            if len(here) == 1 and here[0] <= position:
                self._packets = chain((first,), packets)
                self._next = int(here[0])
                return
        self.close()
        self._open()
