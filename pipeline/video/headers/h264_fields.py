"""Finds second fields in interlaced H.264, where each of a picture's two fields may be a packet.

Source: ITU-T H.264, clauses 7.3.2.1.1 (sequence parameters), 7.3.3 (slice headers) and 7.4.1.2.4 (the second field of a
picture has the same frame_num and the other parity).
"""

from __future__ import annotations

from contextlib import suppress

from pipeline.video.headers.signs import Bits

_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Values of profile_idc whose parameters begin with the format of colours."""
_SLICE_HEADER = 24


class Fields:
    """Finds second fields in a stream with one set of sequence parameters."""

    def __init__(self, parameters: bytes) -> None:
        """``parameters`` is the NAL unit; if it cannot be read, all pictures count as frames."""
        self._waiting: tuple[int, int] | None = None
        self._planes, self._number_bits, self.may_be = 0, 4, False
        with suppress(EOFError):
            self._planes, self._number_bits, self.may_be = _parameters(Bits(_unescaped(parameters[1:])))

    def is_second(self, packet: memoryview, start: int) -> bool:
        """Whether the slice at ``start`` belongs to the field that completes a picture."""
        bits = Bits(_unescaped(bytes(packet[start + 1 : start + _SLICE_HEADER])))
        waiting, self._waiting = self._waiting, None
        try:
            for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
                bits.golomb()
            bits.take(self._planes)
            number = bits.take(self._number_bits)
            if not bits.take(1):
                return False
            parity = bits.take(1)
        except EOFError:
            return False
        if waiting == (number, 1 - parity):
            return True
        self._waiting = (number, parity)
        return False


def _parameters(bits: Bits) -> tuple[int, int, bool]:
    """Bits of colour_plane_id in slices, bits of frame_num, and whether pictures may be fields."""
    profile = bits.take(8)
    bits.take(16)
    bits.golomb()
    planes = 0
    if profile in _WITH_CHROMA:
        colours = bits.golomb()
        planes = 2 if colours == 3 and bits.take(1) else 0
        bits.golomb()
        bits.golomb()
        bits.take(1)
        if bits.take(1):
            for number in range(12 if colours == 3 else 8):
                if bits.take(1):
                    _skip_scaling(bits, 16 if number < 6 else 64)
    number_bits = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb()
    bits.take(1)
    bits.golomb()
    bits.golomb()
    return planes, number_bits, not bits.take(1)


def _skip_scaling(bits: Bits, size: int) -> None:
    scale = 8
    for _ in range(size):
        scale = (scale + bits.signed()) % 256
        if scale == 0:
            return


def _unescaped(data: bytes) -> bytes:
    return data.replace(b"\0\0\3", b"\0\0")
