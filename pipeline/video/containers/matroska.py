"""Detects damage in Matroska and WebM files, by their structure and by the checksums that many writers add.

FFmpeg's demuxer verifies no checksums. Where the structure is broken, it continues at the next cluster and does not
report the pictures in between.

Source: RFC 8794 (EBML: identifiers and sizes of elements, CRC-32), RFC 9559 (the elements of Matroska).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.video.containers.file_bytes import FileBytes

_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
_CRC = 0xBF
_VOID = 0xEC
_HEADER = 0x1A45DFA3
# Seek heads, facts, tracks, clusters, cues, attachments, chapters and tags.
_IN_SEGMENT = frozenset(
    {0x114D9B74, 0x1549A966, 0x1654AE6B, _CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, _CRC, _VOID}
)
_IN_FILE = _IN_SEGMENT | {_HEADER, _SEGMENT}
# Times, positions, sizes, silent tracks and the kinds of blocks.
_IN_CLUSTER = frozenset({0xE7, 0xA7, 0xAB, 0x5854, 0xA3, 0xA0, 0xAF, _CRC, _VOID})


def damaged_in_matroska(path: Path, places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Packets in clusters with a wrong checksum or a broken structure. The end of a cut file does not count."""
    marks = np.zeros(len(places), dtype=bool)
    with path.open("rb") as opened:
        file = FileBytes(opened)
        place = 0
        while place < file.size:
            try:
                kind, start, end = _next(file, place)
                if kind == _CLUSTER and not _has_right_sum(file, start, end):
                    marks[slice(*np.searchsorted(places, (place, end)))] = True
                place = start if kind == _SEGMENT else end
            except _BrokenError as broken:
                place = file.find(_CLUSTER.to_bytes(4, "big"), broken.place + 1)
                if place < file.size or not broken.is_cut:
                    first, behind = np.searchsorted(places, (broken.place, place)).tolist()
                    # The packet before may reach into the gap, or be on screen in place of lost ones.
                    marks[max(first - 1, 0) : behind] = True
    return marks


class _BrokenError(Exception):
    """There is no valid element at a place, or it ends after the end of the file."""

    def __init__(self, place: int, is_cut: bool = False) -> None:
        super().__init__(place)
        self.place = place
        self.is_cut = is_cut


def _next(file: FileBytes, place: int) -> tuple[int, int, int]:
    """Kind of the element at ``place``, and where its content begins and ends."""
    kind, start, end = _element(file, place, _IN_FILE)
    if kind == _CLUSTER:
        end = _end_of_cluster(file, start, end)
    return kind, start, file.size if end is None else end


def _has_right_sum(file: FileBytes, start: int, end: int) -> bool:
    """Whether a cluster matches its checksum, if it has one: a first element with the CRC-32 of the rest."""
    if file.at(start, 2) != b"\xbf\x84":
        return True
    return file.checksum(start + 6, end) == int.from_bytes(file.at(start + 2, 4), "little")


def _end_of_cluster(file: FileBytes, start: int, end: int | None) -> int:
    """Check that a cluster consists of elements up to its end, and return the end."""
    place = start
    while place < (file.size if end is None else end):
        # A live recording does not know the size of its clusters: one lasts until something else begins.
        if end is None and int.from_bytes(file.at(place, 4), "big") in _IN_FILE:
            break
        _, _, behind = _element(file, place, _IN_CLUSTER)
        if behind is None or (end is not None and behind > end):
            raise _BrokenError(place)
        place = behind
    return place


def _element(file: FileBytes, place: int, allowed: frozenset[int]) -> tuple[int, int, int | None]:
    """Kind of the element at ``place``, and where its content begins and ends; None for an unknown end."""
    head = file.at(place, 12)
    length = 9 - head[0].bit_length()
    if int.from_bytes(head[:length], "big") not in allowed:
        raise _BrokenError(place)
    width = 9 - head[length].bit_length() if length < len(head) else 9
    if width > 8:
        raise _BrokenError(place, is_cut=length >= len(head))
    start = place + length + width
    unknown = (1 << 7 * width) - 1
    size = int.from_bytes(head[length : length + width], "big") & unknown
    kind = int.from_bytes(head[:length], "big")
    if size == unknown:
        return kind, start, None
    if start + size > file.size and kind != _SEGMENT:
        raise _BrokenError(place, is_cut=True)
    return kind, start, start + size
