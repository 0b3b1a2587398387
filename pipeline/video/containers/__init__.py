"""Damage that shows in the structure and the checksums of a file. FFmpeg's demuxers read on, and do not report it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.video.containers.matroska import damaged_in_matroska
from pipeline.video.containers.riff import damaged_in_avi


def damaged_packets(
    path: Path, container: str, places: npt.NDArray[np.int64], misses_some: bool
) -> npt.NDArray[np.bool_]:
    """Which packets are not as they were written, or stay on screen in place of others that are lost.

    Args:
        path: the file.
        container: FFmpeg's name of its format.
        places: where the packets begin in it, in bytes, ascending.
        misses_some: whether the file announces more packets than there are.
    """
    if "matroska" in container:
        return damaged_in_matroska(path, places)
    if container == "avi" and misses_some:
        return damaged_in_avi(path, places)
    return np.zeros(len(places), dtype=bool)
