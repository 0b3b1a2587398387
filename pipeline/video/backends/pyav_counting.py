"""Decodes containers without presentation times, by decoding from the start and counting pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import UnsupportedVideoError
from pipeline.video.backends.pyav import as_shown, damage, ends_at_trouble, opened
from pipeline.video.backends.pyav_codec import DamagedPacketError, TrackCodec
from pipeline.video.backends.pyav_packets import PacketReader
from pipeline.video.failures import convert
from pipeline.video.scan import Scan


class CountingDecoder:
    """Reads the file from its start at each call: slow for few pictures, right for all."""

    name = "pyav"

    def __init__(self, scan: Scan, threads: int) -> None:
        """``threads`` is FFmpeg's number of threads; 0 for one per core."""
        self._scan = scan
        self._threads = threads
        self.walked = 0

    def packets_to(self, indices: Sequence[int]) -> int:
        """All from the start of the file on."""
        return self._scan.packets_to(indices)

    def close(self) -> None:
        """Nothing stays open between two calls."""

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As :class:`Decoder`; one picture is in memory at a time."""
        given = 0
        # A fault may be harmless: then a decoder that goes on after it gives all pictures.
        for is_patient in (False, True):
            with ends_at_trouble():
                for picture in self._counted(indices[given:], is_patient):
                    given += 1
                    yield picture
                if given < len(indices):
                    raise UnsupportedVideoError(
                        f"{self._scan.path}: the decoder gives no frame {indices[given]}, though the file lists one",
                        convert(self._scan.path),
                    )
                return
        raise damage(self._scan, f"frame {indices[given]}")

    def _counted(self, indices: Sequence[int], is_patient: bool) -> Iterator[npt.NDArray[np.uint8]]:
        wanted = iter(indices)
        index = next(wanted, None)
        if index is None:
            return
        packets, codec = opened(self._scan, 1 if is_patient else self._threads, is_patient)
        with contextlib.closing(packets):
            for count, frame in enumerate(self._frames(packets, codec)):
                self.walked += 1
                if frame.is_corrupt:
                    raise DamagedPacketError
                if count == index:
                    yield as_shown(frame, self._scan)
                    index = next(wanted, None)
                    if index is None:
                        return

    def _frames(self, packets: PacketReader, codec: TrackCodec) -> Iterator[Any]:
        for packet in packets.read(self._scan.entry(0), len(self._scan.packets.pts) - 1):
            yield from codec.decode(packet)
        yield from codec.drain()
