"""AV1: packets of open bitstream units.

Source: AV1 Bitstream & Decoding Process Specification, sections 5.3 (OBU header), 5.5.1 and 5.9.2 (the first bits of
the sequence and frame headers), 7.6 (random access).
"""

from __future__ import annotations

from pipeline.video.headers.signs import ENTRY, INTRA, SHOWN, Look

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_LAST_KNOWN = 8
_KEY, _INTRA_ONLY = 0, 2


def look_av1(extradata: bytes) -> Look:
    """Shown key frames are entries. One that is shown later is not an entry: pictures in between are not whole."""
    # AV1CodecConfigurationRecord: four bytes, then the sequence header.
    still = _is_still(memoryview(extradata)[4:]) if len(extradata) > 4 and extradata[0] == 0x81 else False

    def look(packet: memoryview) -> int:
        nonlocal still
        signs = 0
        known = False
        place = 0
        while place < len(packet):
            head = packet[place]
            kind, size_place = head >> 3 & 15, place + 1 + (head >> 2 & 1)
            size, start = _leb128(packet, size_place) if head & 2 else (len(packet) - size_place, size_place)
            if head & 0x80 or size < 0 or start + size > len(packet):
                return signs or SHOWN  # for the decoder to judge
            if kind == _SEQUENCE and size:
                still = bool(packet[start] >> 3 & 1)
            elif kind in (_FRAME_HEADER, _FRAME) and size:
                signs |= _frame(packet[start], still, not known)
                known = True
            elif kind > _LAST_KNOWN and kind != 15:
                return signs or SHOWN
            place = start + size
        return signs

    return look


def _frame(first: int, still: bool, is_first: bool) -> int:
    """The first byte of a frame header: show_existing_frame, frame_type in two bits, show_frame."""
    if still:  # a reduced still picture header, which leaves all of these out
        return SHOWN | ENTRY | INTRA
    if first >> 7:
        return SHOWN
    kind, is_shown = first >> 5 & 3, first >> 4 & 1
    signs = SHOWN if is_shown else 0
    if is_first and is_shown and kind == _KEY:
        signs |= ENTRY | INTRA
    return signs


def _is_still(sequence: memoryview) -> bool:
    """Whether the sequence header OBU in a configuration record announces reduced still picture headers."""
    if sequence[0] >> 3 & 15 != _SEQUENCE:
        return False
    start = 1 + (sequence[0] >> 2 & 1)
    if sequence[0] & 2:
        _, start = _leb128(sequence, start)
    return start < len(sequence) and bool(sequence[start] >> 3 & 1)


def _leb128(data: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits per byte, lowest first, and the next position."""
    value = 0
    for count, byte in enumerate(data[place : place + 8]):
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, place + count + 1
    return len(data), place  # not finished: no unit is that long
