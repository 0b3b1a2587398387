"""Frames come as a stream: bounded memory, true times, and nothing past the end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from barcode_videos import FPS, FRAMES, read_barcode, write_video

from pipeline.errors import ConfigError, VideoError
from pipeline.video import OpenVideo, Reader, candidate_times, probe


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="module")
def large_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 pictures of 1.5 MB: most of a gigabyte, were they all kept."""

    def enlarge(picture: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(picture, 6, axis=0), 6, axis=1)

    path = tmp_path_factory.mktemp("large") / "large.mp4"
    return write_video(path, options={"preset": "ultrafast", "tune": "fastdecode"}, store=enlarge, frames=600)


def open_clip(path: Path, backend: str = "auto") -> OpenVideo:
    return Reader(name="test", backend=backend, threads=1, image_fps=1.0).open(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["decord", "pyav", "torchcodec"])
def test_memory_stays_flat_with_a_consumer_that_takes_its_time(backend: str, large_clip: Path) -> None:
    pytest.importorskip(backend if backend != "pyav" else "av")
    process = psutil.Process()
    slept_through, peak = [], 0
    with open_clip(large_clip, backend) as source:
        stream = source.frames_at(candidate_times(source.video, 10.0))
        for _ in range(40):
            next(stream)
        start = process.memory_info().rss
        seen = 40
        for _ in stream:
            seen += 1
            before = process.memory_info().rss
            if seen in (45, 100, 150):  # a model call, during which decord's own threads would fill the memory
                time.sleep(0.7)
                slept_through.append(process.memory_info().rss - before)
            peak = max(peak, before - start)
    assert seen == 200
    assert max(slept_through) < 40 * 2**20
    if backend != "decord":  # while a batch is read it runs ahead by as much as the machine is busy
        assert peak < 450 * 2**20


def test_a_second_past_the_end_is_an_error_and_the_last_moment_is_not(clip: Path) -> None:
    with open_clip(clip) as source:
        last = list(source.frames_at([source.video.duration - 1e-6]))
        assert read_barcode(last[0].pixels) == FRAMES - 1
        assert last[0].time == pytest.approx((FRAMES - 1) / FPS)
        stream = source.frames_at([1.0, source.video.duration + 0.5])
        assert next(stream).time == pytest.approx(1.0)
        with pytest.raises(VideoError, match="after the end"):
            next(stream)


def test_seconds_before_the_first_frame_give_it_and_disorder_is_refused(clip: Path) -> None:
    with open_clip(clip) as source:
        assert [frame.index for frame in source.frames_at([-1.0, 0.0])] == [0, 0]
        assert list(source.frames_at([])) == []
        with pytest.raises(ValueError, match="ascend"):
            source.frames_at([2.0, 1.0])


def test_a_stream_may_be_left_and_another_begun(clip: Path) -> None:
    with open_clip(clip) as source:
        first = source.frames_at([0.0, 1.0, 2.0])
        assert read_barcode(next(first).pixels) == 0
        assert [read_barcode(frame.pixels) for frame in source.frames_at([0.5, 3.0])] == [15, 90]
        with pytest.raises(RuntimeError, match="open it a second time"):
            next(first)


def test_candidates_are_inside_the_video_and_never_none(tmp_path: Path, clip: Path) -> None:
    assert candidate_times(probe(clip), 1.0) == (0.0, 1.0, 2.0, 3.0)
    assert candidate_times(probe(clip), 0.4) == (0.0, 2.5)
    assert len(candidate_times(probe(clip), 30.0)) == FRAMES
    blink = probe(write_video(tmp_path / "blink.mp4", frames=1))
    assert blink.duration == pytest.approx(1 / FPS, abs=0.01)
    assert candidate_times(blink, 1.0) == (0.0,)
    with pytest.raises(ConfigError, match="rate"):
        candidate_times(blink, 0.0)


def test_fingerprint_follows_the_bytes_and_not_the_name(tmp_path: Path, clip: Path) -> None:
    copy = tmp_path / "other name.mp4"
    copy.write_bytes(clip.read_bytes())
    assert probe(copy).fingerprint == probe(clip).fingerprint
    changed = bytearray(clip.read_bytes())
    changed[-1] ^= 1
    copy.write_bytes(changed)
    assert probe(copy).fingerprint != probe(clip).fingerprint


def test_the_room_is_light_to_enter() -> None:
    code = """
        import sys
        import pipeline.video
        heavy = {"torch", "av", "decord", "torchcodec", "PIL"} & set(sys.modules)
        sys.exit(f"imported {heavy}" if heavy else 0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


def test_frames_on_the_way_are_counted_as_far_as_the_codec_gives_them(clip: Path, tmp_path: Path) -> None:
    simple = write_video(tmp_path / "simple.mp4", codec="mpeg4", b_frames=0)  # decoding can start at every 24th frame
    with open_clip(simple) as source:
        given = {frame.index: frame.walked for frame in source.frames_at([0.0, 5 / FPS, 30 / FPS])}
        assert given == {0: 1, 5: 5, 30: 7}
        assert source.packets_to([30, 5, 0]) == 13
    with open_clip(clip) as source:  # H.264, in which FFmpeg skips the frames to which no other refers
        (frame,) = source.frames_at([20 / FPS])
        assert frame.walked is not None
        assert 1 < frame.walked < 21 <= source.packets_to([20])
    counted = write_video(tmp_path / "counted.avi", codec="mpeg4")  # without the order of frames: always from its start
    with open_clip(counted) as source:
        assert [frame.walked for frame in source.frames_at([30 / FPS])] == [31]
    for backend in ("decord", "torchcodec"):
        pytest.importorskip(backend)
        with open_clip(clip, backend) as source:
            assert [frame.walked for frame in source.frames_at([0.0])] == [None]  # they do not say
