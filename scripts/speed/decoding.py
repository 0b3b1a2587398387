"""Reading candidate frames of a video, in a process of its own: all of them, or one part beside other processes.

Run as ``python -m scripts.speed.decoding FILE BACKEND THREADS FIRST LAST``: prints a line, waits for one, opens the
file, reads one frame a second from FIRST to LAST, and prints its figures as JSON.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.video import Reader, candidate_times

_ROOT = Path(__file__).resolve().parents[2]


def decode_alone(path: Path, seconds: int, processes: int) -> float:
    """Seconds in which so many processes read a video together, each a part and with one thread; all begin at once."""
    bounds = [seconds * number // processes for number in range(processes + 1)]
    parts = [_begun(path, "auto", 1, first, last) for first, last in pairwise(bounds)]
    for part in parts:
        _line(part)
    began = time.perf_counter()
    for part in parts:
        _go(part)
    for part in parts:
        _figures(part)
    return time.perf_counter() - began


def read_alone(path: Path, seconds: int, backend: str) -> dict[str, Any]:
    """Figures of one reader with as many threads as it likes: ``frames``, ``seconds``, ``peak`` in GiB.

    Raises:
        RuntimeError: the backend cannot read the file.
    """
    part = _begun(path, backend, 0, 0, seconds)
    _line(part)
    _go(part)
    return _figures(part)


def _begun(path: Path, backend: str, threads: int, first: int, last: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", __spec__.name, str(path), backend, str(threads), str(first), str(last)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _line(part: subprocess.Popen[str]) -> str:
    assert part.stdout is not None
    return part.stdout.readline()


def _go(part: subprocess.Popen[str]) -> None:
    assert part.stdin is not None
    part.stdin.write("go\n")
    part.stdin.flush()


def _figures(part: subprocess.Popen[str]) -> dict[str, Any]:
    said = _line(part)
    part.communicate()
    if part.returncode or not said:
        raise RuntimeError(f"a process that decodes ended with {part.returncode}")
    found: dict[str, Any] = json.loads(said)
    if "problem" in found:
        raise RuntimeError(found["problem"])
    return found


def _main(path: str, backend: str, threads: str, first: str, last: str) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    try:
        reader = Reader(name="speed", backend=backend, threads=int(threads), image_fps=1.0)  # type: ignore[arg-type]
        with reader.open(path) as source:
            wanted = [second for second in candidate_times(source.video, 1.0) if int(first) <= second < int(last)]
            frames = sum(1 for _ in source.frames_at(wanted))
    except PipelineError as error:
        print(json.dumps({"problem": error.problem}), flush=True)
        return
    print(json.dumps({"frames": frames, "seconds": time.perf_counter() - began, "peak": _peak()}), flush=True)


def _peak() -> float:
    """GiB that this process held at most."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    scale = 2**30 if platform.system() == "Darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


if __name__ == "__main__":
    _main(*sys.argv[1:])
