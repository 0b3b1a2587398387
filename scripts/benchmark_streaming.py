"""Time and memory of reading 1 frame a second out of a long video, with each backend in its own process.

    python scripts/benchmark_streaming.py                    # an hour of 1280x720 at 30 fps, made for the purpose
    python scripts/benchmark_streaming.py --video FILE.mp4   # a file of yours

Prints a Markdown table and the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("pyav", "decord", "torchcodec")
WIDTH, HEIGHT, FPS = 1280, 720, 30
PIECE = 120  # seconds that are encoded; the rest repeats their packets


def write_piece(path: Path, seconds: int) -> None:
    """A scene that pans slowly with something moving in it, cut every 8 s, at the bit rate of a web video."""
    import av

    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (2 * HEIGHT // 16, 2 * WIDTH // 16), dtype=np.uint8)
    scene = np.kron(coarse, np.ones((16, 16), np.uint8)) + rng.integers(0, 12, (2 * HEIGHT, 2 * WIDTH), dtype=np.uint8)
    with av.open(str(path), "w") as output:
        # As of most web videos: closed groups of up to 250 pictures, three B-frames, about 1.5 Mbit/s.
        options = {"preset": "veryfast", "g": "250", "b": "1500k", "maxrate": "3M", "bufsize": "6M"}
        stream = output.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        chroma = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
        for index in range(seconds * FPS):
            shot, step = divmod(index, 8 * FPS)
            top, left = (97 * shot) % (HEIGHT // 2) + step // 2, (389 * shot) % (WIDTH // 2) + step
            luma = scene[top : top + HEIGHT, left : left + WIDTH].copy()
            luma[300:380, 4 * step : 4 * step + 80] = 235
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for plane, values in zip(frame.planes, (luma, chroma, chroma), strict=True):
                plane.update(values.tobytes())
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def repeat(piece: Path, path: Path, times: int) -> None:
    """Join the piece's packets to themselves."""
    import av

    with av.open(str(path), "w") as output:
        target: Any = None
        for turn in range(times):
            with av.open(str(piece)) as source:
                track = source.streams.video[0]
                target = target or output.add_stream_from_template(track)
                shift = round(turn * PIECE / track.time_base)
                for packet in source.demux(track):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, target
                    output.mux(packet)


def peak_mib() -> float:
    """The most memory that this process ever held, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    scale = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def measure(backend: str, video: str, threads: int) -> dict[str, Any]:
    """Read the whole video once in this process."""
    from pipeline.errors import PipelineError
    from pipeline.video import Reader, candidate_times

    began = time.perf_counter()
    try:
        reader = Reader(name="benchmark", backend=backend, threads=threads, image_fps=1.0)  # type: ignore[arg-type]
        with reader.open(video) as source:
            opened = time.perf_counter() - began
            frames = sum(1 for _ in source.frames_at(candidate_times(source.video, 1.0)))
    except PipelineError as error:
        return {"problem": error.problem}
    return {
        "frames": frames,
        "opened": opened,
        "wall": time.perf_counter() - began,
        "cpu": time.process_time(),
        "peak": peak_mib(),
    }


def report(video: Path, threads: int) -> None:
    """A row a backend, then the machine."""
    print("| backend | frames | wall s | of it opening | CPU s | frames/s | peak MiB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for backend in BACKENDS:
        command = [sys.executable, __file__, "--measure", backend, "--video", str(video), "--threads", str(threads)]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
        )
        if done.returncode:
            sys.exit(done.stderr)
        row = json.loads(done.stdout.splitlines()[-1])
        if "problem" in row:
            print(f"| {backend} | {row['problem']} | | | | | |", flush=True)
            continue
        rate = row["frames"] / row["wall"]
        times = " | ".join(f"{row[key]:.1f}" for key in ("wall", "opened", "cpu"))
        figures = f"{row['frames']} | {times} | {rate:.1f} | {row['peak']:.0f}"
        print(f"| {backend} | {figures} |", flush=True)
    print(f"\n{video.stat().st_size / 2**20:.0f} MiB file; {machine()}, {threads or 'as many'} decoding threads")


def machine() -> str:
    """Processor and the cores that we may use."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.processor()}, {cores} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="a file to read instead of the one that is made")
    parser.add_argument("--minutes", type=int, default=60, help="length of the file that is made, even")
    parser.add_argument("--threads", type=int, default=0, help="threads that decode, 0 for one a core")
    parser.add_argument("--measure", choices=BACKENDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, str(args.video), args.threads)))
        return
    if args.video:
        report(args.video, args.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        piece, video = Path(folder, "piece.mp4"), Path(folder, "hour.mp4")
        write_piece(piece, PIECE)
        repeat(piece, video, max(args.minutes * 60 // PIECE, 1))
        report(video, args.threads)


if __name__ == "__main__":
    main()
