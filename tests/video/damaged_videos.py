"""Videos with damage: what flipped bits and lost blocks of a disk or a download do to each codec in each container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from pipeline.errors import VideoError
from pipeline.video import Reader

FPS, FRAMES = 25, 64
SMALL, USUAL = (256, 192), (640, 368)
"""Width and height. The larger a picture, the more likely FFmpeg stumbles over damage in it."""
BLOCK = 16
VISIBLE = 16.0
"""Levels of 255 by which a block of 16 x 16 pixels differs on average from what it was, where damage is seen."""

X265 = {"x265-params": "log-level=none"}
VP9 = {"deadline": "realtime", "cpu-used": "6", "b": "500k"}
CLIPS: dict[str, tuple[str, dict[str, str], int]] = {
    "h264.mp4": ("libx264", {}, 2),
    "h264.mkv": ("libx264", {}, 2),
    "h264.ts": ("libx264", {}, 2),
    "h264.avi": ("libx264", {}, 0),
    "hevc.mp4": ("libx265", X265, 2),
    "hevc.mkv": ("libx265", X265, 2),
    "hevc.ts": ("libx265", X265, 2),
    "vp9.mp4": ("libvpx-vp9", VP9, 0),
    "vp9.mkv": ("libvpx-vp9", VP9, 0),
    "vp9.webm": ("libvpx-vp9", {"deadline": "good", "cpu-used": "4", "lag-in-frames": "16", "auto-alt-ref": "1"}, 0),
    "mpeg4.mp4": ("mpeg4", {"b": "800k"}, 2),
    "mpeg4.mkv": ("mpeg4", {"b": "800k"}, 2),
    "mpeg4.avi": ("mpeg4", {"b": "800k"}, 0),
    "av1.mp4": ("libsvtav1", {"preset": "10", "crf": "35"}, 0),
    "av1.mkv": ("libsvtav1", {"preset": "10", "crf": "35"}, 0),
    "mpeg2.ts": ("mpeg2video", {"b": "1M"}, 2),
    "mpeg2.mkv": ("mpeg2video", {"b": "1M"}, 2),
    "mpeg2.mpg": ("mpeg2video", {"b": "1M"}, 2),
    "mjpeg.avi": ("mjpeg", {}, 0),
    "mjpeg.mkv": ("mjpeg", {}, 0),
}
"""Name, encoder, its options, and pictures between two that refer to others behind them."""


@lru_cache
def _scene(width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(6)
    coarse = rng.integers(30, 220, (height // 4, width // 4, 3), dtype=np.uint8)
    grain = rng.integers(0, 10, (2 * height, 2 * width, 1))
    return np.clip(np.kron(coarse, np.ones((8, 8, 1), int)) + grain, 0, 255).astype(np.uint8)


def picture(index: int, size: tuple[int, int]) -> np.ndarray:
    """A camera that pans over a scene, a cut every 40 frames, and two things that move."""
    width, height = size
    shot, step = divmod(index, 40)
    top, left = 37 * shot % (height // 2) + step // 2, 71 * shot % (width // 2) + step
    pixels = _scene(width, height)[top : top + height, left : left + width].copy()
    pixels[20:60, 2 * step : 2 * step + 40] = (235, 40, 40)
    pixels[120:160, width - 50 - 3 * step : width - 10 - 3 * step] = (20, 200, 60)
    return pixels


def write_clip(path: Path, name: str, size: tuple[int, int] = SMALL) -> Path:
    """The clean clip of :data:`CLIPS`."""
    encoder, options, b_frames = CLIPS[name]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(encoder, rate=FPS, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 24
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.thread_count = 1
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Flipped bits, 1 to 512 of them, or a stretch of zeros of 16 to 8192 bytes; not at the very ends of the file."""
    changed = bytearray(data)
    low, high = len(data) // 20, len(data) - len(data) // 50
    if rng.integers(2):
        for place in rng.integers(low, high, int(2 ** rng.uniform(0, 9))):
            changed[place] ^= 1 << int(rng.integers(8))
    else:
        place = int(rng.integers(low, high))
        length = min(int(2 ** rng.uniform(4, 13)), len(data) - place)
        changed[place : place + length] = bytes(length)
    return bytes(changed)


@dataclass(frozen=True)
class Reading:
    """What came of reading a damaged file."""

    name: str
    refused: bool
    seen: float
    """The most by which a block of a picture that was given differs from what it was, in levels of 255."""

    @property
    def passes(self) -> bool:
        """Whether damage is shown as if nothing were wrong."""
        return not self.refused and self.seen > VISIBLE


def difference(given: np.ndarray, clean: np.ndarray) -> float:
    """The largest mean difference of a block."""
    rows, columns = clean.shape[0] // BLOCK, clean.shape[1] // BLOCK
    levels = np.abs(given.astype(int) - clean).mean(2).reshape(rows, BLOCK, columns, BLOCK)
    return float(levels.mean((1, 3)).max())


def readings(
    folder: Path, reader: Reader, count: int, seed: int, names: list[str], step: int, size: tuple[int, int] = SMALL
) -> Iterator[Reading]:
    """Damage ``count`` files, one name after another, and read every ``step``-th frame of each."""
    rng = np.random.default_rng(seed)
    seconds = [(index + 0.1) / FPS for index in range(step // 2, FRAMES, step)]
    clean: dict[str, tuple[bytes, list[np.ndarray]]] = {}
    for number in range(count):
        name = names[number % len(names)]
        if name not in clean:
            whole = write_clip(folder / name, name, size)
            with replace(reader, backend="auto").open(whole) as source:
                clean[name] = (whole.read_bytes(), [frame.pixels for frame in source.frames_at(seconds)])
        data, pictures = clean[name]
        path = folder / f"{number:03d}-{name}"
        path.write_bytes(damaged(data, rng))
        seen, refused = 0.0, False
        try:
            with reader.open(path) as source:
                for frame, whole_picture in zip(source.frames_at(seconds), pictures, strict=True):
                    seen = max(seen, difference(frame.pixels, whole_picture))
        except VideoError:
            refused = True
        path.unlink()
        yield Reading(name, refused, seen)
