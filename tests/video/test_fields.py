"""Interlaced television: a picture in two fields, and each of them a packet."""

from __future__ import annotations

from pathlib import Path

import pytest
from barcode_videos import FPS, read_barcode, write_video
from field_pictures import write_fields

from pipeline.video import Reader, probe
from pipeline.video.scan import scan

FRAMES = 20


def numbers(path: Path, indices: range) -> list[int]:
    seconds = [index / FPS + 0.004 for index in indices]
    with Reader("test", "auto", 1, 1.0).open(path) as source:
        return [read_barcode(frame.pixels) for frame in source.frames_at(seconds)]


def test_two_fields_are_one_picture(tmp_path: Path) -> None:
    path = write_fields(tmp_path / "fields.ts", FRAMES)
    video = probe(path)
    assert (video.frame_count, video.fps) == (FRAMES, pytest.approx(FPS, rel=0.01))
    assert video.duration == pytest.approx(FRAMES / FPS, abs=0.002)
    assert numbers(path, range(FRAMES)) == list(range(FRAMES))
    assert numbers(path, range(7, 8)) == [7]
    assert scan(path).timeline.damaged == frozenset()


def test_interlaced_frames_are_pictures_of_their_own(tmp_path: Path) -> None:
    path = write_video(tmp_path / "frames.ts", options={"x264-params": "tff=1:interlaced=1"}, frames=FRAMES)
    assert probe(path).frame_count == FRAMES
    assert numbers(path, range(FRAMES)) == list(range(FRAMES))
