"""MPEG-1, MPEG-2 and MPEG-4 part 2: packets with a picture after a start code.

Sources: ISO/IEC 11172-2 and 13818-2, clause 6.2.3 (picture header); ISO/IEC 14496-2, clauses 6.2.3 and 6.2.5 (video
object layer and plane).
"""

from __future__ import annotations

import re

from pipeline.video.headers.signs import ENTRY, INTRA, SEVERAL, SHOWN, Bits, Look

_HEAD = 256
_PICTURE = b"\0\0\1\0"
_PLANE = b"\0\0\1\xb6"
_LAYERS = range(0x20, 0x30)
_PACKED = re.compile(rb"DivX\d+(?:b|Build)\d+p")
"""User data of an encoder that puts two planes into a packet, and one that is not coded into the next."""


def mpeg12(packet: memoryview) -> int:
    """Intra pictures are entries; packets without a picture header give no picture."""
    place, data = _find(packet, _PICTURE)
    if place < 0 or place + 6 > len(data):
        return 0 if place < 0 and data.startswith(b"\0\0\1") else SHOWN
    is_intra = data[place + 5] >> 3 & 7 == 1  # after ten bits of temporal_reference
    return SHOWN | (ENTRY | INTRA if is_intra else 0)


def look_mpeg4(extradata: bytes) -> Look:
    """Intra planes are entries. A plane that is not coded repeats the one before it and gives no picture."""
    time_bits = _time_bits(extradata)
    is_packed = bool(_PACKED.search(extradata))

    def look(packet: memoryview) -> int:
        nonlocal time_bits, is_packed
        place, data = _find(packet, _PLANE)
        if place < 0 or place + 5 > len(data):
            return SHOWN  # for the decoder to judge
        if time_bits is None:
            time_bits = _time_bits(data)
        is_packed = is_packed or bool(_PACKED.search(data, 0, place))
        kind = data[place + 4] >> 6
        several = SEVERAL if is_packed else 0
        if kind == 0:
            return SHOWN | ENTRY | INTRA | several
        if several or time_bits is None:
            return SHOWN | several
        return SHOWN if _is_coded(bytes(packet[place + 4 : place + 20]), time_bits) else 0

    return look


def _find(packet: memoryview, code: bytes) -> tuple[int, bytes]:
    """The place of a start code, -1 for none, and the bytes that were searched."""
    data = bytes(packet[:_HEAD])
    place = data.find(code)
    if (place < 0 or place + 6 > len(data)) and len(data) < len(packet):
        data = bytes(packet)
        place = data.find(code)
    return place, data


def _is_coded(plane: bytes, time_bits: int) -> bool:
    bits = Bits(plane)
    try:
        bits.take(2)
        while bits.take(1):
            pass
        bits.take(1 + time_bits + 1)
        return bool(bits.take(1))
    except EOFError:
        return True


def _time_bits(data: bytes) -> int | None:
    """Bits of ``vop_time_increment``, from the video object layer; None where there is none."""
    place = data.find(b"\0\0\1")
    while 0 <= place < len(data) - 4:
        if data[place + 3] in _LAYERS:
            try:
                return _layer(Bits(data[place + 4 : place + 40]))
            except EOFError:
                return None
        place = data.find(b"\0\0\1", place + 3)
    return None


def _layer(bits: Bits) -> int:
    bits.take(1 + 8)
    if bits.take(1):
        bits.take(4 + 3)
    if bits.take(4) == 15:  # extended aspect ratio
        bits.take(16)
    if bits.take(1):  # vol_control_parameters
        bits.take(2 + 1)
        if bits.take(1):  # vbv_parameters
            bits.take(79)
    bits.take(2 + 1)
    return max((bits.take(16) - 1).bit_length(), 1)
