"""Random access to the bytes of a large file, read in pieces."""

from __future__ import annotations

import zlib
from io import BufferedReader

_PIECE = 1 << 20


class FileBytes:
    """The bytes of an open file. Not a memory map, whose read errors would end the process."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self._start = 0
        self._piece = b""

    def at(self, place: int, count: int) -> bytes:
        """``count`` bytes at ``place``; fewer at the end of the file."""
        if not self._start <= place <= place + count <= self._start + len(self._piece):
            self._file.seek(place)
            self._start, self._piece = place, self._file.read(max(count, _PIECE))
        return self._piece[place - self._start : place - self._start + count]

    def find(self, mark: bytes, place: int) -> int:
        """Where ``mark`` occurs next; the size of the file if it does not."""
        while place < self.size:
            at = self.at(place, _PIECE).find(mark)
            if at >= 0:
                return place + at
            place += _PIECE - len(mark) + 1
        return self.size

    def checksum(self, start: int, end: int) -> int:
        """CRC-32 of the bytes from ``start`` to ``end``."""
        total = 0
        for place in range(start, end, _PIECE):
            total = zlib.crc32(self.at(place, min(_PIECE, end - place)), total)
        return total
