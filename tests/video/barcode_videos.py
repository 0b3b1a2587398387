"""Videos whose every picture says which frame it is, so that a test can tell the right frame from its neighbour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS = 10
BLOCK = 16
WIDTH, HEIGHT = BITS * BLOCK, 96
FPS = 30
FRAMES = 120
TICKS = 1000  # a second, where timestamps are given


def barcode(index: int) -> np.ndarray:
    """The index in white and black blocks, highest bit at the left; below it red, then blue, then noise."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(BITS):
        if index >> (BITS - 1 - bit) & 1:
            picture[: HEIGHT // 2, bit * BLOCK : (bit + 1) * BLOCK] = 255
    noise = np.random.default_rng(7).integers(60, 200, (HEIGHT // 2, WIDTH, 1), dtype=np.uint8)
    picture[HEIGHT // 2 :] = np.roll(noise, 3 * index, axis=1)
    picture[HEIGHT // 2 :, :BLOCK] = (220, 20, 20)
    picture[HEIGHT // 2 :, -BLOCK:] = (20, 20, 220)
    return picture


def read_barcode(pixels: np.ndarray) -> int:
    """The index that a decoded picture shows; it must lie upright, unmirrored and in RGB."""
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels.dtype == np.uint8
    corners = pixels[-HEIGHT // 4 : -4, :, :].astype(int)
    left, right = corners[:, 4:12].mean((0, 1)), corners[:, -12:-4].mean((0, 1))
    assert left[0] > 150 > left[2], "the left corner is not red: mirrored, or not RGB"
    assert right[2] > 150 > right[0], "the right corner is not blue: mirrored, or not RGB"
    level = pixels[8 : HEIGHT // 2 - 8].astype(int).mean((0, 2)).reshape(BITS, BLOCK)[:, 4:12].mean(1)
    return int(sum(1 << (BITS - 1 - bit) for bit in range(BITS) if level[bit] > 128))


def write_video(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    stamps: Sequence[int] | None = None,
    b_frames: int = 2,
    store: Callable[[np.ndarray], np.ndarray] = lambda picture: picture,
    display: dict[str, Any] | None = None,
    frames: int = FRAMES,
) -> Path:
    """Encode barcodes 0, 1, 2, ...; ``stamps`` are their presentation times in 1/1000 s, else 30 a second."""
    with av.open(str(path), "w", options=container_options or {}) as output:
        stream = output.add_stream(codec, rate=FPS, options=options or {})
        first = store(barcode(0))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 24
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.thread_count = 1
        if stamps is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, TICKS)
        if display:
            stream.set_display_rotation(**display)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(store(barcode(index))), format="rgb24")
            if stamps is None:
                frame.pts, frame.time_base = index, Fraction(1, FPS)
            else:
                frame.pts, frame.time_base = stamps[index], Fraction(1, TICKS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A second of silence without a picture."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000)
        for start in range(0, 16000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
