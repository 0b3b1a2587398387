"""The findings about one packet, as bits of one int: there are a hundred thousand packets in an hour of video."""

from __future__ import annotations

from collections.abc import Callable

SHOWN = 1
"""Decoding the packet gives a picture."""
ENTRY = 2
"""Decoding may start here: this picture is whole, and so are all that are shown after it."""
INTRA = 4
"""The picture refers to no other, though later ones may refer to pictures before it."""
REFERENCE = 8
"""H.264: later pictures may refer to this one, so it counts towards the end of a recovery."""
SKIPPABLE = 16
"""HEVC, VVC: a leading picture that decoders skip where the entry before it begins a new sequence."""
BEGINS = 32
"""HEVC, VVC: an entry that begins a new sequence, whatever was decoded before it."""
SEVERAL = 64
"""MPEG-4: packets hold pictures with the times of other packets."""
SECOND_FIELD = 128
"""H.264: the packet is the second field of the picture that begins in the packet before it."""
RECOVERY_SHIFT = 8
"""Above the flags: how many reference pictures after this one the pictures are whole, where decoding starts here."""

Look = Callable[[memoryview], int]
"""From the bytes of a packet to its signs."""


class Bits:
    """Reads a header bit by bit."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        """The next ``count`` bits as a number.

        Raises:
            EOFError: the header ends before them.
        """
        self._left -= count
        if self._left < 0:
            raise EOFError("the header is too short")
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """The next number in unsigned Exp-Golomb code (ITU-T H.264, clause 9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """The same as a signed number (clause 9.1.1)."""
        code = self.golomb()
        return (code + 1) // 2 if code & 1 else -(code // 2)
