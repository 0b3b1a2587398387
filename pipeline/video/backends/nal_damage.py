"""Detects damage in the bytes of H.264 and HEVC packets.

In a NAL unit 0, 0 is never followed by 0, 1 or 2, nor 0, 0, 3 by more than 3, so that no start code can appear in it
(ITU-T H.264, clause 7.4.1; H.265, clause 7.4.2.1). A run of zeros, as a lost disk block or a gap in a download leaves
it, breaks this rule. Decoders take such bytes as they are, and often notice nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.video.headers.nal import avc_length_size, hevc_length_size

# Zeros after a unit, which some writers leave there.
_STUFFING = 64
_START = b"\0\0\1"


def nal_damage(codec: str, extradata: bytes) -> Callable[[bytes], bool] | None:
    """A function that says whether a packet breaks the rules; None for other codecs.

    Args:
        codec: FFmpeg's canonical name, such as ``h264``.
        extradata: what the container holds for the whole track; it says in which form packets are.
    """
    if codec == "h264":
        length_size = avc_length_size(extradata)
        return lambda packet: _is_damaged(packet, length_size, _is_h264_slice)
    if codec == "hevc":
        length_size = hevc_length_size(extradata)
        return lambda packet: _is_damaged(packet, length_size, _is_hevc_slice)
    return None


def _is_h264_slice(first: int) -> bool:
    return 1 <= first & 31 <= 5


def _is_hevc_slice(first: int) -> bool:
    return first >> 1 & 63 < 32


def _is_damaged(packet: bytes, length_size: int, is_slice: Callable[[int], bool]) -> bool:
    for start, end in _with_lengths(packet, length_size) if length_size else _with_start_codes(packet):
        if end > len(packet):
            return True
        if start < end and (packet[start] & 128 or (is_slice(packet[start]) and _is_illegal(packet, start, end))):
            return True
    return False


def _with_lengths(packet: bytes, length_size: int) -> Iterator[tuple[int, int]]:
    place = 0
    while place + length_size < len(packet):
        start = place + length_size
        place = start + int.from_bytes(packet[place:start], "big")
        yield start, place


def _with_start_codes(packet: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each unit. Trailing zeros are not part of it."""
    place = packet.find(_START)
    while place >= 0:
        start = place + len(_START)
        place = packet.find(_START, start)
        end = len(packet) if place < 0 else place
        yield start, start + len(packet[start:end].rstrip(b"\0"))


def _is_illegal(packet: bytes, start: int, end: int) -> bool:
    last = start + len(packet[start:end].rstrip(b"\0"))
    if end - last > _STUFFING:
        return True
    place = packet.find(b"\0\0", start, last)
    while 0 <= place < last - 2:
        following = packet[place + 2]
        if following < 3 or (following == 3 and place + 3 < last and packet[place + 3] > 3):
            return True
        place = packet.find(b"\0\0", place + 3, last)
    return False
