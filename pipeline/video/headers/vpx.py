"""VP8 and VP9: packets of one frame, or of several of which some are not shown.

Sources: RFC 6386, section 9.1 (VP8's frame tag); VP9 Bitstream & Decoding Process Specification, section 6.2 (the first
bits of the frame header) and annex B (superframes).
"""

from __future__ import annotations

from pipeline.video.headers.signs import ENTRY, INTRA, SHOWN


def vp8(packet: memoryview) -> int:
    """Key frames are entries. Frames that only serve as a reference have packets of their own and give no picture."""
    first = packet[0]
    signs = SHOWN if first >> 4 & 1 else 0
    return signs if first & 1 else signs | ENTRY | INTRA


def vp9(packet: memoryview) -> int:
    """Key frames are entries. A superframe gives a picture if one of its frames is shown."""
    signs = _frame(packet[0], packet[1] if len(packet) > 1 else 0)
    if signs & SHOWN:
        return signs
    place = 0
    for size in _sizes(packet)[:-1]:
        place += size
        if place >= len(packet):
            return signs | SHOWN  # for the decoder to judge
        signs |= _frame(packet[place], packet[place + 1] if place + 1 < len(packet) else 0) & SHOWN
    return signs


def _frame(first: int, second: int) -> int:
    """frame_marker in two bits, profile in two or three, show_existing_frame, frame_type, show_frame."""
    if first >> 6 != 2:
        return SHOWN  # not VP9, for the decoder to judge
    bits = (first << 8 | second) << (first >> 4 & 3 == 3)  # in profile 3 a reserved bit follows
    if bits >> 11 & 1:
        return SHOWN
    is_key, is_shown = not bits >> 10 & 1, bits >> 9 & 1
    return (SHOWN if is_shown else 0) | (ENTRY | INTRA if is_key else 0)


def _sizes(packet: memoryview) -> list[int]:
    """The sizes of a superframe's frames from the index at its end; for other packets, the packet's size."""
    mark = packet[-1]
    if mark >> 5 == 0b110:
        count, width = (mark & 7) + 1, (mark >> 3 & 3) + 1
        length = 2 + count * width
        if len(packet) >= length and packet[-length] == mark:
            start = len(packet) - length + 1
            places = range(start, start + count * width, width)
            return [int.from_bytes(packet[place : place + width], "little") for place in places]
    return [len(packet)]
