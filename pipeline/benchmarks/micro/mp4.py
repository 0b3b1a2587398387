"""Writes a :class:`~pipeline.benchmarks.micro.world.Plan` to an mp4 file."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.benchmarks.micro.render import frame_at
from pipeline.benchmarks.micro.world import FPS, SIZE, Plan
from pipeline.errors import StorageError


def write_mp4(plan: Plan, path: Path) -> None:
    """Encode to h264 and put the finished file at ``path`` in one step: a file that is there is whole.

    The same plan gives the same bytes with the same encoder, which is why it runs in one thread.

    Raises:
        StorageError: the folder cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _encode(plan, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"The micro videos cannot be written to {path.parent}: {error}",
            "choose a folder that you may write to: benchmark.root=FOLDER",
        ) from error


def _encode(plan: Plan, path: Path) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"preset": "ultrafast", "crf": "18", "g": str(8 * FPS), "threads": "1"}
        for number in range(round(plan.duration * FPS)):
            frame = av.VideoFrame.from_ndarray(frame_at(plan, number / FPS), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
