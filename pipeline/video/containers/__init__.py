"""Detects damage in the structure and the checksums of a file, which FFmpeg's demuxers do not report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.video.containers.matroska import damaged_in_matroska
from pipeline.video.containers.riff import damaged_in_avi


def damaged_packets(
    path: Path, container: str, places: npt.NDArray[np.int64], misses_some: bool
) -> npt.NDArray[np.bool_]:
    """Which packets are damaged, or stay on screen in place of lost ones.

    Args:
        path: the file.
        container: FFmpeg's name of its format.
        places: byte positions of the packets in the file, ascending.
        misses_some: whether the file declares more packets than it has.
    """
    if "matroska" in container:
        return damaged_in_matroska(path, places)
    if container == "avi" and misses_some:
        return damaged_in_avi(path, places)
    return np.zeros(len(places), dtype=bool)
