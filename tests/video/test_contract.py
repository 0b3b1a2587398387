"""One contract, every backend, every kind of file: the very frames that were on screen, or a named error."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from barcode_videos import FPS, FRAMES, read_barcode, write_sound, write_video

from pipeline.errors import (
    EmptyVideoError,
    MissingExtraError,
    MissingVideoError,
    NoVideoStreamError,
    TruncatedVideoError,
    UnsupportedVideoError,
    VideoError,
)
from pipeline.video import OpenVideo, Reader, probe

BACKENDS = ("auto", "decord", "torchcodec")
INSTALLED = {name: importlib.util.find_spec(name) is not None for name in ("decord", "torchcodec")}

EVEN = [round(index * 1000 / FPS) for index in range(FRAMES)]
# Phones and screen recorders: mostly 17 to 50 ms apart, now and then nothing for most of a second.
GAPS = np.random.default_rng(1).choice([17, 33, 50, 100, 700], FRAMES - 1, p=[0.3, 0.3, 0.2, 0.18, 0.02])
UNEVEN = [0, *np.cumsum(GAPS).tolist()]
X265 = "log-level=none:pools=none"


def _turned(quarters: int, **display: Any) -> dict[str, Any]:
    return {"store": lambda picture: np.rot90(picture, -quarters), "display": {"degrees": 90 * quarters, **display}}


# name: how it is written, when its frames are shown, the number on the first one, who refuses it
VIDEOS: dict[str, tuple[dict[str, Any], list[int], int, set[str]]] = {
    "h264.mp4": ({}, EVEN, 0, set()),
    "h264.mkv": ({}, EVEN, 0, set()),
    "h264_open_gop.mp4": ({"options": {"x264-params": "open-gop=1"}}, EVEN, 0, {"decord"}),
    "hevc.mp4": ({"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=0"}}, EVEN, 0, set()),
    "hevc_open_gop.mp4": ({"codec": "libx265", "options": {"x265-params": X265}}, EVEN, 0, {"decord"}),
    "vp9.webm": ({"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}, EVEN, 0, set()),
    "av1.mp4": ({"codec": "libsvtav1", "options": {"preset": "10", "crf": "20"}}, EVEN, 0, {"decord"}),
    "mpeg4_b_frames.mp4": ({"codec": "mpeg4"}, EVEN, 0, {"decord"}),
    "mpeg4_b_frames.avi": ({"codec": "mpeg4"}, EVEN, 0, {"decord", "torchcodec"}),
    "h264.avi": ({}, EVEN, 0, {"decord", "torchcodec"}),
    "h264.ts": ({}, EVEN, 0, {"decord", "torchcodec"}),
    "mpeg2.mpg": ({"codec": "mpeg2video"}, EVEN, 0, {"decord", "torchcodec"}),
    "variable_rate.mp4": ({"stamps": UNEVEN}, UNEVEN, 0, set()),
    "variable_rate.mkv": ({"stamps": UNEVEN}, UNEVEN, 0, set()),
    "rotated_90.mp4": (_turned(1), EVEN, 0, {"decord", "torchcodec"}),
    "rotated_180.mp4": (_turned(2), EVEN, 0, {"decord", "torchcodec"}),
    "rotated_270.mp4": (_turned(3), EVEN, 0, {"decord", "torchcodec"}),
    "mirrored.mp4": (
        {"store": lambda picture: np.rot90(picture[:, ::-1], -1), "display": {"degrees": 90, "hflip": True}},
        EVEN,
        0,
        {"decord", "torchcodec"},
    ),
    "starts_at_5_s.mp4": ({"stamps": [5000 + stamp for stamp in EVEN]}, EVEN, 0, set()),
    "edit_list.mp4": (
        {"stamps": [stamp - 400 for stamp in EVEN]},
        [stamp - 400 for stamp in EVEN[12:]],
        12,
        {"decord", "torchcodec"},
    ),
}


@pytest.fixture(scope="module")
def video_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("videos")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write_video(path, **VIDEOS[name][0])

    return make


def reader(backend: str) -> Reader:
    return Reader(name="test", backend=backend, threads=2, image_fps=1.0)  # type: ignore[arg-type]


def seen_before_failure(source: OpenVideo, seconds: list[float]) -> tuple[list[int], VideoError | None]:
    seen: list[int] = []
    try:
        for frame in source.frames_at(seconds):
            seen.append(read_barcode(frame.pixels))
    except VideoError as error:
        return seen, error
    return seen, None


def write_damaged(path: Path) -> Path:
    data = bytearray(write_video(path).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)
    return path


def needs(backend: str) -> None:
    if not INSTALLED.get(backend, True):
        pytest.skip(f"{backend} is not installed")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", VIDEOS)
def test_gives_the_frame_on_screen_or_refuses(name: str, backend: str, video_of: Callable[[str], Path]) -> None:
    needs(backend)
    _, stamps, first, refused_by = VIDEOS[name]
    path = video_of(name)
    if backend in refused_by:
        with pytest.raises(UnsupportedVideoError, match=r"reader\.backend=auto"):
            reader(backend).open(path)
        return
    times = (np.array(stamps) - stamps[0]) / 1000
    rng = np.random.default_rng(3)
    between = np.sort(rng.uniform(0.1, 0.9, 150) + rng.integers(0, len(times) - 1, 150))
    within = np.interp(between, np.arange(len(times)), times)
    requests = {
        "every frame": times + 0.004,
        "dense, off the grid": within,
        "sparse": within[::30],
        "one": times[-20:-19] + 0.004,
        "repeated": np.array([0.0, 0.0, times[50] + 0.004, times[50] + 0.004, times[-1] + 0.004]),
    }
    with reader(backend).open(path) as source:
        # Backwards from request to request: a decoder must find its way back, too.
        for what, seconds in reversed(requests.items()):
            shown = np.searchsorted(times, seconds + 0.0015, side="right") - 1
            frames = list(source.frames_at(seconds.tolist()))
            assert [read_barcode(frame.pixels) - first for frame in frames] == shown.tolist(), what
            assert [frame.index for frame in frames] == shown.tolist(), what
            assert [frame.time for frame in frames] == pytest.approx(times[shown].tolist(), abs=0.0015), what


@pytest.mark.parametrize("name", VIDEOS)
def test_probe_says_what_is_there(name: str, video_of: Callable[[str], Path]) -> None:
    stamps = VIDEOS[name][1]
    video = probe(video_of(name))
    assert (video.width, video.height, video.frame_count) == (160, 96, len(stamps))
    assert video.duration == pytest.approx((stamps[-1] - stamps[0]) / 1000 + 0.03, abs=0.04)
    assert video.fps == pytest.approx(len(stamps) / video.duration)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of which only the first six tenths were copied."""
    folder = tmp_path_factory.mktemp("cut")
    writing: dict[str, dict[str, Any]] = {
        "index_first.mp4": {"container_options": {"movflags": "+faststart"}},
        "index_last.mp4": {},
        "cut.mkv": {},
        "cut.avi": {"codec": "mpeg4", "b_frames": 0},
    }
    paths = {}
    for name, settings in writing.items():
        whole = write_video(folder / f"whole_{name}", **settings).read_bytes()
        paths[name] = folder / name
        paths[name].write_bytes(whole[: len(whole) * 6 // 10])
    return paths


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["index_first.mp4", "cut.mkv", "cut.avi"])
def test_truncated_file_gives_what_is_there_then_says_so(name: str, backend: str, cut: dict[str, Path]) -> None:
    needs(backend)
    seconds = [index / FPS + 0.004 for index in range(FRAMES)]
    if backend in ("decord", "torchcodec"):
        with pytest.raises(UnsupportedVideoError):
            reader(backend).open(cut[name])
        return
    with reader(backend).open(cut[name]) as source:
        assert source.video.duration == pytest.approx(FRAMES / FPS, abs=0.1)
        seen, failure = seen_before_failure(source, seconds)
        assert 40 < len(seen) < FRAMES
        assert seen == list(range(len(seen)))
        assert type(failure) is TruncatedVideoError


@pytest.mark.parametrize("backend", BACKENDS)
def test_file_without_its_index_is_truncated(backend: str, cut: dict[str, Path]) -> None:
    needs(backend)
    with pytest.raises(TruncatedVideoError, match="fetch"):
        reader(backend).open(cut["index_last.mp4"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_damage_in_the_middle_is_never_shown(backend: str, tmp_path: Path) -> None:
    needs(backend)
    with reader(backend).open(write_damaged(tmp_path / "damaged.mp4")) as source:
        seen, failure = seen_before_failure(source, [index / FPS + 0.004 for index in range(FRAMES)])
    assert seen == list(range(len(seen)))
    assert isinstance(failure, (TruncatedVideoError, UnsupportedVideoError))
    if backend == "auto":
        assert 20 < len(seen) < FRAMES - 20
        assert type(failure) is TruncatedVideoError


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("missing.mp4", MissingVideoError),
        ("empty.mp4", EmptyVideoError),
        ("sound.mp4", NoVideoStreamError),
        ("text.mp4", UnsupportedVideoError),
        ("text.txt", UnsupportedVideoError),
        ("noise.mkv", UnsupportedVideoError),
    ],
)
def test_what_is_no_video_is_named(backend: str, content: str, error: type[Exception], tmp_path: Path) -> None:
    path = tmp_path / content
    if content.startswith("empty"):
        path.touch()
    elif content.startswith("sound"):
        write_sound(path)
    elif content.startswith("text"):
        path.write_text("What does the man pick up?\n" * 100)
    elif content.startswith("noise"):
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(error, match=path.name) as raised:
        reader(backend).open(path)
    assert raised.value.remedy  # type: ignore[attr-defined]
    with pytest.raises(error):
        probe(path)


@pytest.mark.parametrize("threads", [1, 2])
def test_pyav_notices_damage_that_the_codec_patches_over(threads: int, tmp_path: Path) -> None:
    """A few wrong bytes inside a picture that others refer to: FFmpeg guesses the pixels and reports nothing."""
    path = write_video(tmp_path / "whole.mp4")
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    place, size = max(packets[60:68], key=lambda packet: packet[1])
    data = bytearray(path.read_bytes())
    data[place + size // 2 : place + size // 2 + 6] = b"\x5a\x00\xff\x13\x77\x42"
    patched = tmp_path / "patched.mp4"
    patched.write_bytes(data)
    seconds = [index / FPS + 0.004 for index in range(FRAMES)]
    settings = Reader(name="test", backend="pyav", threads=threads, image_fps=1.0)
    with settings.open(path) as source, settings.open(patched) as damaged:
        stream = damaged.frames_at(seconds)
        given: list[np.ndarray] = []
        with pytest.raises(TruncatedVideoError, match="damaged"):
            given.extend(frame.pixels for frame in stream)
        assert 50 < len(given) < 68
        assert all(map(np.array_equal, given, (frame.pixels for frame in source.frames_at(seconds))))
        # What does not depend on the damage is given still.
        assert read_barcode(next(damaged.frames_at([FRAMES / FPS - 0.03])).pixels) == FRAMES - 1


def test_auto_is_pyav(video_of: Callable[[str], Path]) -> None:
    for name in ("h264.mp4", "vp9.webm", "h264.ts", "mpeg4_b_frames.avi"):
        with reader("auto").open(video_of(name)) as source:
            assert source.backend == "pyav", name


def test_a_backend_that_is_not_installed_is_named(video_of: Callable[[str], Path]) -> None:
    if INSTALLED["torchcodec"]:
        pytest.skip("torchcodec is installed")
    with pytest.raises(MissingExtraError, match=r"gens-videoqa\[torchcodec\]"):
        reader("torchcodec").open(video_of("h264.mp4"))
