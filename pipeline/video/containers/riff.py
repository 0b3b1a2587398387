"""The structure of an AVI file: whether it is whole, and where it is damaged.

An AVI file stores no times: the number of a chunk is its time. Where a chunk's header is damaged, FFmpeg continues at
the next one that it recognises, and all later pictures come too early.

Source: Microsoft, "AVI RIFF File Reference" (chunks and lists, padded to even lengths).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.video.containers.file_bytes import FileBytes

_LISTS = (b"RIFF", b"LIST")


def damaged_in_avi(path: Path, places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """The last packet before a break in the chain of chunks, and all after it. The end of a cut file is not a break."""
    marks = np.zeros(len(places), dtype=bool)
    with path.open("rb") as opened:
        broken = _first_break(FileBytes(opened))
    if broken is not None:
        marks[max(int(np.searchsorted(places, broken)) - 1, 0) :] = True
    return marks


def riff_is_whole(file: Path) -> bool:
    """Whether the RIFF chunks of an AVI file are as long as they declare."""
    size = file.stat().st_size
    place = 0
    with file.open("rb") as opened:
        while True:
            opened.seek(place)
            head = opened.read(12)
            if len(head) < 12 or head[:4] != b"RIFF":
                return True  # no further chunk of the video
            place += 8 + int.from_bytes(head[4:8], "little")
            if place > size:
                return False
            place += place & 1


def _first_break(file: FileBytes) -> int | None:
    place = 0
    while place + 8 <= file.size:
        head = file.at(place, 8)
        if not _is_name(head[:4]):
            return place
        if head[:4] in _LISTS:
            place += 12  # lists are entered: their chunks follow one another, too
            continue
        end = place + 8 + int.from_bytes(head[4:], "little")
        # Some writers leave out the byte that makes lengths even.
        place = end if end & 1 and not _is_name(file.at(end + 1, 4)) and _is_name(file.at(end, 4)) else end + (end & 1)
    return None


def _is_name(name: bytes) -> bool:
    return len(name) < 4 or all(32 <= letter < 127 for letter in name)
