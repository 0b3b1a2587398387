"""Small real videos for tests that need one and don't test decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_video(
    path: Path,
    seconds: int = 12,
    fps: int = 4,
    size: int = 64,
    seed: int = 0,
    drop: int = 0,
    codec: str = "libx264",
) -> Path:
    """A file whose picture changes every second; the last ``drop`` frames are left out.

    With ``mpeg4``, decoding can start at every twelfth frame, and each of the others is made of the one before it.
    """
    import av

    random = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        no_more_entries = {"sc_threshold": "1000000000"} if codec == "mpeg4" else {}
        stream = container.add_stream(codec, rate=fps, options=no_more_entries)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for second in range(seconds):
            picture = np.kron(
                random.integers(0, 255, (4, 4, 3), dtype=np.uint8), np.ones((size // 4, size // 4, 1), np.uint8)
            )
            for _ in range(fps - (drop if second == seconds - 1 else 0)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_cut_video(path: Path, seconds: int = 30, share: float = 0.7) -> Path:
    """A file whose download stopped: its index stands at the front and promises all, of which a share is there."""
    import av

    whole = write_video(path.with_suffix(".whole.mp4"), seconds=seconds)
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path
