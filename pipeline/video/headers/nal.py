"""H.264, HEVC and VVC: packets of NAL units.

Sources: ITU-T H.264, H.265 and H.266 (NAL unit types in tables 7-1, 7-1 and 5; slice headers in clause 7.3.3; recovery
point SEI in annex D), ISO/IEC 14496-15 (the configuration records avcC, hvcC and vvcC).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.video.headers.h264_fields import Fields
from pipeline.video.headers.signs import (
    BEGINS,
    ENTRY,
    INTRA,
    RECOVERY_SHIFT,
    REFERENCE,
    SECOND_FIELD,
    SHOWN,
    SKIPPABLE,
    Bits,
    Look,
)

_HEAD = 96
"""Bytes in which the first slice of most packets begins."""
_LONGEST_SEI = 1024
_LONGEST_PARAMETERS = 256
_RECOVERY_POINT = 6
"""Payload type of the recovery point SEI message."""
_MOST_RECOVERY = 1 << 16

# H.264
_AVC_PLAIN, _AVC_IDR, _AVC_SEI, _AVC_PARAMETERS = 1, 5, 6, 7
_AVC_SLICES = frozenset({1, 2, 5})
_AVC_NO_PICTURE = frozenset({6, 7, 8, 9, 10, 11, 12, 13, 15})
_AVC_INTRA_SLICES = frozenset({2, 4, 7, 9})


@dataclass(frozen=True)
class _Types:
    """NAL unit types of a codec with random access pictures, and where a unit stores its type."""

    at: int
    """Which byte of the unit holds the type."""
    shift: int
    last_picture: int
    last_known: int
    ends: frozenset[int]
    """End of a sequence or of the bitstream."""
    entries: frozenset[int]
    continuing: int
    """The entry (CRA) whose leading pictures may refer to what was decoded before it."""
    skippable: frozenset[int]


_HEVC = _Types(0, 1, 31, 40, frozenset({36, 37}), frozenset(range(16, 22)), 21, frozenset({8, 9}))
_VVC = _Types(1, 3, 11, 25, frozenset({21, 22}), frozenset({7, 8, 9}), 9, frozenset({3}))


def avc_length_size(extradata: bytes) -> int:
    """Bytes of the length before each H.264 NAL unit, from the avcC record; 0 where units follow start codes."""
    return (extradata[4] & 3) + 1 if len(extradata) > 6 and extradata[0] == 1 else 0


def hevc_length_size(extradata: bytes) -> int:
    """Bytes of the length before each HEVC NAL unit, from the hvcC record; 0 where units follow start codes."""
    return (extradata[21] & 3) + 1 if len(extradata) > 22 and extradata[0] == 1 else 0


def may_hold_fields(extradata: bytes) -> bool:
    """Whether pictures of an H.264 track may be fields, by its avcC record; true where parameters stand in packets."""
    return not avc_length_size(extradata) or Fields(extradata[8:]).may_be


def look_h264(extradata: bytes) -> Look:
    """Instantaneous refreshes are entries, and intra pictures at a recovery point; a recovery may take pictures.

    In streams of separate fields, a packet may be the second half of a picture.
    """
    length_size = avc_length_size(extradata)
    has_entry = False
    fields = Fields(extradata[8:] if length_size else b"")

    def look(packet: memoryview) -> int:
        nonlocal has_entry, fields
        if has_entry and length_size and not fields.may_be and len(packet) > length_size:
            first = packet[length_size]
            if first & 31 == _AVC_PLAIN:  # as nearly all are
                return SHOWN | REFERENCE if first & 96 else SHOWN
        recovery = -1
        known = False
        for start in _units(packet, length_size):
            first = packet[start]
            kind = first & 31
            if kind in _AVC_SLICES:
                signs = SHOWN | REFERENCE if first & 96 else SHOWN
                if fields.may_be and fields.is_second(packet, start):
                    signs |= SECOND_FIELD
                if kind == _AVC_IDR:
                    has_entry = True
                    return signs | ENTRY | INTRA
                # Other intra pictures only matter where decoding cannot start anywhere else.
                if (recovery == 0 or not has_entry) and _is_intra(packet, start):
                    has_entry = has_entry or recovery == 0
                    signs |= INTRA | (ENTRY if recovery == 0 else 0)
                return signs | recovery << RECOVERY_SHIFT if recovery > 0 else signs
            if kind not in _AVC_NO_PICTURE:
                return SHOWN  # for the decoder to judge
            if kind == _AVC_SEI:
                recovery = max(recovery, _recovery(packet, start))
            elif kind == _AVC_PARAMETERS:
                fields = Fields(bytes(packet[start : start + _LONGEST_PARAMETERS]))
            known = True
        return 0 if known else SHOWN

    return look


def look_hevc(extradata: bytes) -> Look:
    """Intra random access pictures are entries."""
    return _look(_HEVC, hevc_length_size(extradata))


def look_vvc(extradata: bytes) -> Look:
    """As in HEVC. A gradual refresh is not an entry, because pictures are whole only some time after it."""
    length_size = (extradata[0] >> 1 & 3) + 1 if extradata and extradata[0] >> 3 == 0b11111 else 0
    return _look(_VVC, length_size)


def _look(types: _Types, length_size: int) -> Look:
    ended = True
    end_marks = tuple(
        mark + bytes([kind << types.shift, 1] if types.at == 0 else [0, kind << types.shift | 1])
        for mark in (b"\0\0\1", (2).to_bytes(max(length_size, 1), "big"))
        for kind in types.ends
    )

    def look(packet: memoryview) -> int:
        nonlocal ended
        known = False
        for start in _units(packet, length_size):
            if start + types.at >= len(packet):
                break
            kind = packet[start + types.at] >> types.shift & 63
            if kind <= types.last_picture:
                signs = SHOWN
                if kind in types.skippable:
                    signs |= SKIPPABLE
                elif kind in types.entries:
                    signs |= ENTRY | INTRA | (BEGINS if ended or kind != types.continuing else 0)
                # The end of a sequence follows its last picture.
                ended = bytes(packet[-6:]).endswith(end_marks)
                return signs
            if kind > types.last_known:
                return SHOWN  # for the decoder to judge
            ended = ended or kind in types.ends
            known = True
        return 0 if known else SHOWN

    return look


def _units(packet: memoryview, length_size: int) -> Iterable[int]:
    """Positions of NAL units, up to the end of the packet or to where it cannot be read."""
    if not length_size:
        return _start_codes(packet)
    # Most packets begin with their picture, which ends the search.
    return _lengths(packet, length_size) if len(packet) > length_size else ()


def _lengths(packet: memoryview, length_size: int) -> Iterator[int]:
    yield length_size
    place, size = 0, len(packet)
    while True:
        length = int.from_bytes(packet[place : place + length_size], "big")
        place += length_size + length
        if place + length_size >= size:
            return
        yield place + length_size


def _start_codes(packet: memoryview) -> Iterator[int]:
    data = bytes(packet[:_HEAD])
    place = 0
    while True:
        found = data.find(b"\0\0\1", place)
        if 0 <= found < len(data) - 3:
            place = found + 3
            yield place
        elif len(data) < len(packet):
            data = bytes(packet)
        else:
            return


def _is_intra(packet: memoryview, start: int) -> bool:
    """Whether an H.264 slice refers to no other picture, by its type; ``first_mb_in_slice`` stands before it."""
    bits = Bits(bytes(packet[start + 1 : start + 9]))
    try:
        bits.golomb()
        return bits.golomb() in _AVC_INTRA_SLICES
    except EOFError:
        return False


def _recovery(packet: memoryview, start: int) -> int:
    """The count of an H.264 recovery point, -1 where the SEI unit holds none that can be used.

    A recovery that takes pictures must promise that they then match exactly.
    """
    data = bytes(packet[start + 1 : start + _LONGEST_SEI]).replace(b"\0\0\3", b"\0\0")
    place = 0
    while place + 2 < len(data) and data[place : place + 2] not in (b"\x80", b"\x80\0"):
        kind, place = _sum(data, place)
        size, place = _sum(data, place)
        if kind == _RECOVERY_POINT:
            bits = Bits(data[place : place + size])
            try:
                count, matches = bits.golomb(), bits.take(1)
            except EOFError:
                return -1
            return count if count < _MOST_RECOVERY and (matches or not count) else -1
        place += size
    return -1


def _sum(data: bytes, place: int) -> tuple[int, int]:
    """A number of an SEI message, as a sum of bytes of which only the last is below 255, and the next position."""
    value = 0
    while place < len(data):
        value += data[place]
        place += 1
        if data[place - 1] < 255:
            break
    return value, place
