"""A transport stream with holes: right pictures, or the word that it is damaged; and no such word of a whole one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from barcode_videos import FPS, read_barcode, write_video

from pipeline.errors import TruncatedVideoError
from pipeline.video import OpenVideo, Reader
from pipeline.video.scan import scan

FRAMES = 72
SIZE = 188
"""Bytes of a packet of the transport stream."""
X265 = "log-level=none:pools=none"


def with_a_hole(whole: bytes, place: int, path: Path) -> Path:
    path.write_bytes(whole[: place * SIZE] + whole[(place + 2) * SIZE :])
    return path


def shown(source: OpenVideo, second: float) -> int | None:
    """The number of the picture at a second, none where the file is said to be damaged there."""
    try:
        (frame,) = source.frames_at([second])
    except TruncatedVideoError:
        return None
    return read_barcode(frame.pixels)


@pytest.mark.parametrize("settings", [{}, {"codec": "libx265", "options": {"x265-params": X265}}])
def test_what_depends_on_lost_packets_is_never_shown(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.ts", frames=FRAMES, **settings).read_bytes()
    refused = 0
    for place in np.linspace(0.2, 0.8, 8) * len(whole) / SIZE:
        path = with_a_hole(whole, int(place), tmp_path / f"lost{int(place)}.ts")
        times = scan(path).timeline.times
        with Reader("test", "auto", 1, 1.0).open(path) as source:
            numbers = [shown(source, float(time) + 0.002) for time in times]
        refused += numbers.count(None)
        assert all(number in (None, round(time * FPS)) for number, time in zip(numbers, times, strict=True))
    assert 8 < refused < 8 * FRAMES // 2


def test_frames_before_the_hole_are_given_first(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.ts", frames=FRAMES).read_bytes()
    path = with_a_hole(whole, len(whole) // SIZE // 2, tmp_path / "lost.ts")
    timeline = scan(path).timeline
    first = min(timeline.damaged)
    with Reader("test", "auto", 1, 1.0).open(path) as source:
        stream = source.frames_at((timeline.times + 0.002).tolist())
        assert [read_barcode(next(stream).pixels) for _ in range(first)] == list(range(first))
        with pytest.raises(TruncatedVideoError, match=r"lost\.ts: the file is damaged: parts of the picture at second"):
            next(stream)
        assert shown(source, (FRAMES - 1) / FPS + 0.002) == FRAMES - 1
