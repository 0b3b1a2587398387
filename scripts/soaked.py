"""A long run with local workers, whose processes must not grow.

Videos are a few micro ones, each again and again with other bytes at its end, so that every one is decoded. While the
command runs, memory, open files and shared memory of all its processes are read twice a second. After the first 200
questions of a stage, the most that a process of each kind has may not grow by more than a tenth. At the end a second
run is killed, and nothing may be left of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import psutil

from pipeline.artefacts.folder import ANSWERS_FILE, RELEVANCE_FILE
from pipeline.benchmarks.micro.mp4 import write_mp4
from pipeline.benchmarks.micro.questions import KINDS, draw_question
from pipeline.benchmarks.micro.world import make_plan
from pipeline.domain import option_letter
from scripts.disturbed import MARK, Fault, kind_of, marked, shared_memory

PLANS = 4
"""Different videos."""
SECONDS = 180
EVERY = 200
"""Questions between two figures."""
GROWTH = 1.1
FREE_BOX = b"\0\0\0\x10free"
"""Of an MP4 file: eight bytes that nobody reads follow (ISO/IEC 14496-12)."""


@dataclass(frozen=True)
class Figures:
    """Of the processes of one kind at one moment."""

    memory: float
    """The most resident bytes of one of them."""
    files: int
    """The most open files."""
    shared: float
    """Bytes of shared memory that one of them holds open."""


def write_questions(folder: Path, videos: int, each: int) -> Path:
    """Videos and a file of questions about them."""
    made = []
    for number in range(PLANS):
        chance = Random(f"soak {number}")
        plan, path = make_plan(chance, SECONDS, SECONDS), folder / f"plan-{number}.mp4"
        write_mp4(plan, path)
        made.append((plan, path.read_bytes()))
    file = folder / "questions.jsonl"
    with file.open("w") as rows:
        for number in range(videos):
            plan, content = made[number % PLANS]
            path, chance = folder / f"{number:04d}.mp4", Random(number)
            path.write_bytes(content + FREE_BOX + number.to_bytes(8, "big"))
            for place in range(each):
                asked = draw_question(KINDS[place % len(KINDS)], plan, chance)
                row = {"id": f"{number:04d}-{place}", "video": str(path), "question": asked.text}
                options = list(asked.options)
                rows.write(json.dumps({**row, "options": options, "answer": option_letter(asked.correct)}) + "\n")
    return file


def start(folder: Path, questions: Path, workers: int) -> subprocess.Popen[bytes]:
    """The command over these questions, with run folder and caches in ``folder``."""
    words = ("evaluate", "benchmark=jsonl", f"benchmark.path={questions}", "sampler=gens_micro", "sampler.fps=0.1")
    how = ("answerer=qwen2_vl_micro", "execution=local", f"execution.workers={workers}", "execution.decode_workers=2")
    places = (f"paths.runs={folder}/runs", f"paths.cache={folder}/cache")
    folder.mkdir()
    with (folder / "said.txt").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *words, *how, *places],
            stdout=said,
            stderr=said,
            env={**os.environ, MARK: str(folder), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


def processes(folder: Path) -> Mapping[str, list[psutil.Process]]:
    """Those of a run by kind."""
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    for process in marked(folder):
        found[kind_of(process)].append(process)
    return found


def figures(members: list[psutil.Process]) -> Figures | None:
    """None where all of them are gone."""
    memory, files, shared = [], [], []
    for process in members:
        try:
            memory.append(process.memory_info().rss)
            descriptors = list(Path(f"/proc/{process.pid}/fd").iterdir())
            files.append(len(descriptors))
            mapped = [each.stat().st_size for each in descriptors if os.readlink(each).startswith("/memfd:")]
            shared.append(sum(mapped))
        except (psutil.Error, OSError):
            continue
    return Figures(max(memory), max(files), max(shared)) if shared else None


def lines(folder: Path, name: str) -> int:
    """Rows of a file of the run."""
    path = next((folder / "runs").glob(f"*/{name}"), None)
    return 0 if path is None else path.read_bytes().count(b"\n")


def watched(folder: Path, process: subprocess.Popen[bytes], total: int, say: Callable[[str], None] = print) -> None:
    """Read the figures while the command works on so many questions.

    Raises:
        Fault: it ends badly, or a kind of process grows.
    """
    seen: dict[tuple[str, str, int], list[Figures]] = defaultdict(list)
    while process.poll() is None:
        time.sleep(0.5)
        answers = lines(folder, ANSWERS_FILE)
        stage, done = ("answering", answers) if answers else ("sampling", lines(folder, RELEVANCE_FILE))
        for kind, members in processes(folder).items():
            found = figures(members)
            if found is not None and 0 < done < total:  # not while it loads, nor while the report is made
                seen[kind, stage, done // EVERY].append(found)
    if process.returncode not in (0, 1):
        raise Fault(f"the command ended with {process.returncode}: {(folder / 'said.txt').read_text()[-2000:]}")
    grown = []
    for kind, stage in dict.fromkeys((kind, stage) for kind, stage, _ in seen):
        parts = sorted(part for each, of, part in seen if (each, of) == (kind, stage))
        told = {part: _middle(seen[kind, stage, part]) for part in parts}
        for part, found in told.items():
            megabytes = f"{found.memory / 1e6:.0f} MB, {found.files} files, {found.shared / 1e6:.1f} MB shared"
            say(f"{stage}, {kind}, questions {part * EVERY} to {(part + 1) * EVERY}: {megabytes}")
        if len(parts) > 2:
            first, last = told[parts[1]], told[parts[-1]]
            times = last.memory / first.memory
            say(f"{stage}, {kind}: memory is {times:.3f} of what it was after its first {EVERY} questions")
            if last.memory > GROWTH * first.memory or last.files > first.files + 8:
                grown.append(f"{kind} while {stage}: {first} became {last}")
    if grown:
        raise Fault("; ".join(grown))


def _middle(found: list[Figures]) -> Figures:
    memory, files, shared = (median(getattr(each, name) for each in found) for name in ("memory", "files", "shared"))
    return Figures(memory, round(files), shared)


def killed(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Kill the driver in the middle of the work, and look at what is left.

    Raises:
        Fault: a process.
    """
    while process.poll() is None and lines(folder, RELEVANCE_FILE) < 20:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 10.0
    while left := [each.pid for members in processes(folder).values() for each in members]:
        if time.monotonic() > end:
            raise Fault(f"processes are left: {left}")
        time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--questions", type=int, default=10, help="about each video")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="an empty folder that is kept; else one that is removed")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="gens-soak-"))
    folder.mkdir(exist_ok=True)
    before, begin = shared_memory(), time.monotonic()
    try:
        questions = write_questions(folder, given.videos, given.questions)
        watched(folder / "whole", start(folder / "whole", questions, given.workers), given.videos * given.questions)
        killed(folder / "killed", start(folder / "killed", questions, given.workers))
        if left := shared_memory() - before:
            raise Fault(f"/dev/shm has {sorted(left)} left")
    except Fault as fault:
        print(f"fault: {fault}; see {folder}")
        return 1
    if given.folder is None:
        shutil.rmtree(folder)
    print(
        f"{given.videos * given.questions} questions in {time.monotonic() - begin:.0f} s: nothing grew, nothing is left"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
