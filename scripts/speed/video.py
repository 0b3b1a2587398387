"""A long video file: a short piece that is encoded, and its packets again and again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

FPS = 30


def write_piece(path: Path, seconds: int, width: int, height: int) -> None:
    """A scene that pans slowly with something moving in it, cut every 8 s, at the bit rate of a web video."""
    rng = np.random.default_rng(0)
    block = max(1, width // 80)
    coarse = rng.integers(30, 220, (2 * height // block + 1, 2 * width // block + 1), dtype=np.uint8)
    scene = np.kron(coarse, np.ones((block, block), np.uint8))
    scene += rng.integers(0, 12, scene.shape, dtype=np.uint8)
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    # Of most web videos: closed groups of up to 250 pictures, three B-frames, about 1.5 Mbit/s at 1280x720.
    rate = 1500 * width * height // (1280 * 720)
    options = {"preset": "veryfast", "g": "250", "b": f"{rate}k", "maxrate": f"{2 * rate}k", "bufsize": f"{4 * rate}k"}
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(seconds * FPS):
            shot, step = divmod(index, 8 * FPS)
            top, left = (97 * shot + step // 2) % height, (389 * shot + step) % width
            luma = scene[top : top + height, left : left + width].copy()
            place = 4 * step % width
            luma[height // 3 : height // 2, place : place + height // 9] = 235
            frame = av.VideoFrame(width, height, "yuv420p")
            for plane, values in zip(frame.planes, (luma, chroma, chroma), strict=True):
                padded = np.zeros((plane.height, plane.line_size), np.uint8)
                padded[:, : plane.width] = values
                plane.update(padded.tobytes())
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def repeat(piece: Path, path: Path, seconds: int) -> None:
    """Join the packets of a piece to themselves until the file is as long as asked for; nothing is encoded."""
    with av.open(str(piece)) as source:
        unit = source.streams.video[0].time_base
    shift = 0
    with av.open(str(path), "w") as output:
        target: Any = None
        while shift * unit < seconds:
            with av.open(str(piece)) as source:
                track = source.streams.video[0]
                target = target or output.add_stream_from_template(track)
                packets = [packet for packet in source.demux(track) if None not in (packet.dts, packet.pts)]
                length = max(packet.pts + packet.duration for packet in packets) - min(each.pts for each in packets)
                for packet in packets:
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, target
                    output.mux(packet)
                shift += length
