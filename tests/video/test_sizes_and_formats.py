"""Pictures of any size and pixel format: RGB of the right shape and colours from every backend, or a refusal."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UnsupportedVideoError
from pipeline.video import Reader

BACKENDS = ("auto", "decord", "torchcodec")
FRAMES = 4
FPS = 25
X264 = {"crf": "4"}


def picture(index: int, width: int, height: int) -> np.ndarray:
    """Red at the left, blue at the right, brighter from frame to frame."""
    pixels = np.empty((height, width, 3), int)
    pixels[:, : (width + 1) // 2] = (200, 60, 40)
    pixels[:, (width + 1) // 2 :] = (40, 60, 200)
    return np.clip(pixels + 8 * index, 0, 255).astype(np.uint8)


def write(path: Path, codec: str, pix_fmt: str, sizes: list[tuple[int, int]], options: dict[str, str]) -> Path:
    """``FRAMES`` pictures of each size, one size after another in a single track."""
    with av.open(str(path), "w") as output:
        track: Any = None
        for part, (width, height) in enumerate(sizes):
            encoder = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, pix_fmt
            encoder.framerate, encoder.time_base = Fraction(FPS), Fraction(1, FPS)
            encoder.bit_rate, encoder.options = 8_000_000, options
            if track is None:
                track = output.add_stream(codec, rate=FPS)
                track.width, track.height, track.pix_fmt = width, height, pix_fmt
                track.bit_rate, track.codec_context.options = 8_000_000, options
            for index in [*range(FRAMES), None]:
                frame = None
                if index is not None:
                    frame = av.VideoFrame.from_ndarray(picture(index, width, height), format="rgb24")
                    frame.pts, frame.time_base = part * FRAMES + index, Fraction(1, FPS)
                for packet in (encoder if len(sizes) > 1 else track).encode(frame):
                    packet.stream = track
                    output.mux(packet)
    return path


def read(path: Path, backend: str, size: tuple[int, int], frames: int) -> list[np.ndarray] | UnsupportedVideoError:
    if importlib.util.find_spec("av" if backend == "auto" else backend) is None:
        pytest.skip(f"{backend} is not installed")
    reader = Reader(name="test", backend=backend, threads=1, image_fps=1.0)  # type: ignore[arg-type]
    try:
        with reader.open(path) as source:
            assert (source.video.width, source.video.height) == size
            return [frame.pixels for frame in source.frames_at([(k + 0.1) / FPS for k in range(frames)])]
    except UnsupportedVideoError as error:
        return error


def check(
    path: Path,
    backend: str,
    size: tuple[int, int],
    frames: int = FRAMES,
    grey: bool = False,
    refused_by: Collection[str] = (),
) -> None:
    """Read all, and compare. What torchcodec refuses depends on its version."""
    given = read(path, backend, size, frames)
    if isinstance(given, UnsupportedVideoError):
        assert backend in {*refused_by, "torchcodec"}, given
        assert "reader.backend=auto" in given.remedy
        return
    assert backend not in refused_by
    width, height = size
    inner = np.ones(width, bool)
    inner[max((width + 1) // 2 - 2, 0) : (width + 1) // 2 + 2] = False  # where red and blue meet, chroma is shared
    for index, pixels in enumerate(given):
        assert pixels.shape == (height, width, 3)
        assert pixels.dtype == np.uint8
        wanted = picture(index % FRAMES, width, height).astype(int)
        if grey:
            wanted = np.repeat((wanted @ [0.299, 0.587, 0.114])[:, :, None], 3, axis=2)
        if inner.any():
            assert np.abs(pixels - wanted)[:, inner].mean() < 12


@pytest.mark.parametrize("backend", BACKENDS)
def test_pictures_may_be_narrow_low_or_odd(backend: str, tmp_path: Path) -> None:
    for width in (2, 3, 5, 6, 8, 15, 16, 24, 33, 48, 71, 72, 73, 95):
        # decord takes the padding of these rows for channels, 4 to 48 of them.
        refused_by = {"decord"} if width in (2, 3, 6, 8, 16, 24, 48, 72) else set()
        for height in (2, 9, 34):
            path = write(tmp_path / "small.mp4", "libx264", "yuv444p", [(width, height)], X264)
            check(path, backend, (width, height), refused_by=refused_by)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("subsampled.mp4", "libx264", "yuv420p"),
        ("ten_bits.mp4", "libx264", "yuv420p10le"),
        ("rgb.mkv", "libx264rgb", "rgb24"),
        ("grey.mp4", "libx265", "gray"),
        ("grey_ten_bits.mp4", "libx265", "gray10le"),
        ("alpha.webm", "libvpx-vp9", "yuva420p"),
        ("planar_rgb.mkv", "libvpx-vp9", "gbrp"),
        ("alpha.mov", "qtrle", "argb"),
        ("alpha_ten_bits.mov", "prores_ks", "yuva444p10le"),
        ("alpha_png.mov", "png", "rgba"),
        ("full_range.avi", "mjpeg", "yuvj420p"),
        ("grey_sixteen_bits.mkv", "ffv1", "gray16le"),
        ("raw.avi", "rawvideo", "bgr24"),
        ("animation.apng", "apng", "rgba"),
    ],
)
def test_pixel_formats(name: str, codec: str, pix_fmt: str, backend: str, tmp_path: Path) -> None:
    options = {
        "libx264": X264,
        "libx265": {"x265-params": "log-level=none:pools=none:crf=4"},
        "libvpx-vp9": {"auto-alt-ref": "0", "deadline": "realtime", "cpu-used": "8"},
    }.get(codec, {})
    path = write(tmp_path / name, codec, pix_fmt, [(64, 48)], options)
    refused_by = set() if codec in ("libx264", "libx264rgb", "libx265", "libvpx-vp9") else {"decord"}
    check(path, backend, (64, 48), grey="gray" in pix_fmt, refused_by=refused_by)


@pytest.mark.parametrize("backend", BACKENDS)
def test_palette(backend: str, tmp_path: Path) -> None:
    first, *others = [Image.fromarray(picture(index, 45, 31)) for index in range(FRAMES)]
    first.save(tmp_path / "palette.gif", save_all=True, append_images=others, duration=1000 // FPS, loop=0)
    check(tmp_path / "palette.gif", backend, (45, 31), refused_by={"decord"})


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_change_of_size_inside_a_video_keeps_the_first_size(backend: str, tmp_path: Path) -> None:
    path = write(tmp_path / "changes.ts", "libx264", "yuv420p", [(128, 96), (64, 48), (192, 96)], X264)
    check(path, backend, (128, 96), frames=3 * FRAMES, refused_by={"decord"})
