"""Videos of other tests, for the reading in worker processes."""

from __future__ import annotations

import sys
from pathlib import Path

_VIDEO = str(Path(__file__).parents[1] / "video")
if _VIDEO not in sys.path:
    sys.path.append(_VIDEO)

from barcode_videos import FRAMES, write_video  # noqa: E402
from test_contract import VIDEOS  # noqa: E402

from pipeline.domain import Frame  # noqa: E402

__all__ = ["FRAMES", "VIDEOS", "write_video"]


def half(frame: Frame) -> object:
    """Every second row and column."""
    return frame.pixels[::2, ::2].copy()


class Halving:
    """As a processor of a family, with a table."""

    def __init__(self, table: object) -> None:
        self.table = table

    def prepare(self, frame: Frame) -> object:
        return self.table[frame.pixels[::2, ::2]]  # type: ignore[index]
