"""Runs that are killed, interrupted and starved of disk at random moments, and must end as an undisturbed one.

A round is one combination of settings in folders of its own. Its command is started and disturbed, once or several
times, and then started again until it says that all is done. Then every question has one row in each file, the rows are
those of an undisturbed run but for what they cost, no process is left, and nothing in ``/dev/shm``.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from pipeline.artefacts.folder import ANSWERS_FILE, RELEVANCE_FILE, SELECTIONS_FILE, read_questions
from pipeline.artefacts.journal import read_rows
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.domain import Cost

VERB = ("evaluate", "benchmark=micro", "sampler=gens_micro", "answerer=qwen2_vl_micro", "sampler.fps=0.25")
SIZE = ("benchmark.max_minutes=3", "benchmark.questions_per_video=3")
EXECUTORS = {
    "inline": ("execution=inline",),
    "local": ("execution=local", "execution.workers=2"),
    "ray": ("execution=ray", "execution.workers=2"),
}
MARK = "GENS_DISTURBED"
"""An environment variable by which the processes of a round are known."""
OF_WORKERS = {
    "decode worker": "pipeline.execution.worker",
    "local worker": "pipeline.execution.local_worker",
    "ray worker": "ray::",
}
"""What the command lines of the kinds of workers hold."""
FILES = {RELEVANCE_FILE: RelevanceRow, SELECTIONS_FILE: SelectionRow, ANSWERS_FILE: AnswerRow}
ALL_DONE = (0, 1)
"""Exit codes of a command that has a row for each question; 1 where some questions failed."""
LONGEST = 600.0
"""Seconds of one command."""
STARTS = 4
"""Commands after which a round that is disturbed no more must be complete."""


class Fault(Exception):
    """Something that a disturbance must not do."""


@dataclass(frozen=True)
class Setting:
    """Where a round runs."""

    folder: Path
    executor: str
    data: Path
    videos: int

    @property
    def words(self) -> tuple[str, ...]:
        """The command without what one start of it adds."""
        places = (f"paths.runs={self.folder}/runs", f"paths.cache={self.folder}/cache", f"paths.data={self.data}")
        return (*VERB, *SIZE, f"benchmark.videos={self.videos}", *EXECUTORS[self.executor], *places)

    def start(self, *words: str, most_bytes: int | None = None) -> subprocess.Popen[bytes]:
        """Start the command, with its output in ``said.txt``."""
        with (self.folder / "said.txt").open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", *self.words, *words],
                stdout=said,
                stderr=said,
                env={**os.environ, MARK: str(self.folder), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        if most_bytes is not None:
            # As on a full disk: Python ignores the signal, and a write gives EFBIG where it would give ENOSPC there.
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        return process

    def processes(self) -> set[psutil.Process]:
        """All processes of this round that still run."""
        return marked(self.folder)

    def lines(self, name: str) -> int:
        """How many rows a file of the run has."""
        path = next((self.folder / "runs").glob(f"*/{name}"), None)
        return 0 if path is None else path.read_bytes().count(b"\n")

    @property
    def run(self) -> Path:
        """The run folder."""
        (found,) = (path for path in (self.folder / "runs").iterdir() if path.is_dir())
        return found


def marked(folder: Path) -> set[psutil.Process]:
    """The processes that were started for a folder, and what these have started: some write over their environment."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder):
                found |= {process, *process.children(recursive=True)}
    return {process for process in found if _runs(process)}


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def kind_of(process: psutil.Process) -> str:
    """By its command line."""
    try:
        words = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    # Of two marks of which one begins the other the longer one is meant.
    kinds = [kind for kind, mark in OF_WORKERS.items() if mark in words]
    return kinds[-1] if kinds else "driver" if " -m pipeline " in f" {words} " else ""


# --- disturbances --------------------------------------------------------------------------------------------------


def kill_driver(setting: Setting, chance: random.Random) -> str:
    """At any moment of the command."""
    process = setting.start()
    moment = _any_moment(setting, process, chance)
    process.kill()
    process.wait()
    return f"the driver was killed {moment}"


def kill_while_writing(setting: Setting, chance: random.Random) -> str:
    """Right after a row, and with the last of its rows cut as a write is that was not finished."""
    name, rows = chance.choice(list(FILES)), chance.randint(1, 6)
    process = setting.start()
    _until(process, lambda: setting.lines(name) >= rows)
    process.kill()
    process.wait()
    path = next((setting.folder / "runs").glob(f"*/{name}"), None)
    if path is not None and (content := path.read_bytes()):
        last = content.rstrip(b"\n").rfind(b"\n") + 1
        with path.open("r+b") as file:
            file.truncate(chance.randint(last, len(content)))
    return f"the driver was killed in row {rows} of {name}"


def kill_worker(setting: Setting, chance: random.Random) -> str:
    """One of the workers of any kind, once or several times; the command goes on."""
    process, killed = setting.start("execution.retry=crashed"), []
    for _ in range(chance.randint(1, 3)):
        _any_moment(setting, process, chance)
        for kind, worker in chance.sample(found := _workers(setting), min(1, len(found))):
            with suppress(psutil.Error):
                worker.send_signal(chance.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]))
                killed.append(kind)
    code = _wait(process)
    if code not in (*ALL_DONE, 2):
        raise Fault(f"the command ended with {code} after its workers were killed: {killed}")
    return f"killed: {', '.join(killed) or 'no worker'}; the command ended with {code}"


def fill_disk(setting: Setting, chance: random.Random) -> str:
    """No file may be longer than a random size."""
    size = int(2 ** chance.uniform(8, 15))
    code = _wait(setting.start(most_bytes=size))
    if code not in (*ALL_DONE, 2):
        raise Fault(f"the command ended with {code} where files could have {size} bytes")
    return f"files could have {size} bytes; the command ended with {code}"


def interrupt(setting: Setting, chance: random.Random) -> str:
    """Ctrl-C, once or twice."""
    process, twice = setting.start(), chance.random() < 0.3
    moment = _any_moment(setting, process, chance)
    process.send_signal(signal.SIGINT)
    if twice:
        time.sleep(chance.uniform(0.0, 1.0))
        process.send_signal(signal.SIGINT)
    code = _wait(process)
    return f"interrupted {'twice' if twice else 'once'} {moment}; the command ended with {code}"


DISTURBANCES: Sequence[Callable[[Setting, random.Random], str]] = (
    kill_driver,
    kill_while_writing,
    kill_worker,
    fill_disk,
    interrupt,
)


def _workers(setting: Setting) -> list[tuple[str, psutil.Process]]:
    kinds = ((kind_of(process), process) for process in sorted(setting.processes(), key=lambda each: each.pid))
    return [(kind, process) for kind, process in kinds if kind in OF_WORKERS]


def _any_moment(setting: Setting, process: subprocess.Popen[bytes], chance: random.Random) -> str:
    """Wait for a moment that does not depend on the speed of the machine: a number of rows, and a part of a second."""
    rows, more = chance.randint(0, 6 * setting.videos), chance.uniform(0.0, 1.0)
    _until(process, lambda: sum(map(setting.lines, FILES)) >= rows)
    time.sleep(more)
    return f"{more:.2f} s after {rows} rows"


def _until(process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> None:
    """Wait until something holds or the command is over."""
    end = time.monotonic() + LONGEST
    while process.poll() is None and not holds():
        if time.monotonic() > end:
            raise Fault("the command does not come on")
        time.sleep(0.005)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code."""
    try:
        return process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        raise Fault("the command does not end") from None


# --- what must hold ------------------------------------------------------------------------------------------------


def rows_of(run: Path) -> dict[str, dict[str, Any]]:
    """The rows of each file by question, without what they cost.

    Raises:
        Fault: a question has no row, or one too many.
    """
    asked = {question.id: question for question in read_questions(run)}
    found: dict[str, dict[str, Any]] = {}
    for name, kind in FILES.items():
        rows: list[Any] = read_rows(kind, run / name, asked)  # type: ignore[type-var]
        count = Counter(row.question.id for row in rows)
        if set(count) != set(asked):
            raise Fault(f"{name} has no row of {sorted(set(asked) - set(count))}")
        lines = (run / name).read_bytes().count(b"\n")
        usable = sum(not _of_a_crash(row) for row in rows)
        if lines < len(asked) or (usable == len(asked) and lines > len(asked) + _replaced(run / name)):
            raise Fault(f"{name} has {lines} lines for {len(asked)} questions")
        found[name] = {row.question.id: _free(row) for row in rows}
    return found


def _replaced(path: Path) -> int:
    """How many lines are failures in whose place another row came, since the same command tried the question again."""
    return sum(b"unreadable_video" in line or b"lost" in line for line in path.read_bytes().splitlines())


def _of_a_crash(row: Any) -> bool:
    said = getattr(row, "relevance", None) or getattr(row, "selection", None) or row.answer
    return bool(said.detail) and "crash" in said.detail


def _free(row: Any) -> Any:
    """A row without what it costs."""
    for part in ("relevance", "answer"):
        if hasattr(row, part):
            row = replace(row, **{part: replace(getattr(row, part), cost=Cost())})
    return row


def finish(setting: Setting, calm: dict[str, dict[str, Any]]) -> None:
    """Start the command until it is done, and check what it leaves.

    Raises:
        Fault: it is not done, or leaves other rows than an undisturbed run, or a process.
    """
    for _ in range(STARTS):
        code = _wait(setting.start("execution.retry=crashed"))
        if code in ALL_DONE:
            break
    else:
        raise Fault(f"the command still ends with {code}")
    found = rows_of(setting.run)
    for name, rows in calm.items():
        for question_id, row in rows.items():
            if found[name].get(question_id) != row:
                raise Fault(f"{name}: {found[name].get(question_id)} is not {row}")
        if len(found[name]) != len(rows):
            raise Fault(f"{name} has {len(found[name])} questions for {len(rows)}")
    end = time.monotonic() + 10.0
    while left := [process.pid for process in setting.processes()]:
        if time.monotonic() > end:
            raise Fault(f"processes are left: {left}")
        time.sleep(0.1)


def shared_memory() -> set[str]:
    """The files of ``/dev/shm``."""
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


def rounds(
    folder: Path, count: int, seed: int, executors: Sequence[str], videos: int, say: Callable[[str], None] = print
) -> None:
    """Disturb so many runs over so many videos, each with three questions.

    Raises:
        Fault: something is not as it must be; the seed is said before each round.
    """
    data = folder / "data"
    calm = Setting(folder / "calm", "inline", data, videos)
    calm.folder.mkdir(parents=True)
    start = time.monotonic()
    code = _wait(calm.start())
    if code not in ALL_DONE:
        raise Fault(f"the undisturbed run ended with {code}: {(calm.folder / 'said.txt').read_text()}")
    wanted = rows_of(calm.run)
    say(f"undisturbed: {len(wanted[ANSWERS_FILE])} questions in {time.monotonic() - start:.1f} s")
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        setting = Setting(folder / f"round-{number}", executors[number % len(executors)], data, videos)
        setting.folder.mkdir()
        before = shared_memory()
        say(f"round {number} of seed {seed}, execution={setting.executor}")
        try:
            for disturb in [chance.choice(DISTURBANCES) for _ in range(chance.randint(1, 2))]:
                say(f"  {disturb(setting, chance)}")
            finish(setting, wanted)
            if left := shared_memory() - before:
                raise Fault(f"/dev/shm has {sorted(left)} left")
        finally:
            for process in setting.processes():
                process.kill()
        shutil.rmtree(setting.folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--executors", default="inline,local")
    parser.add_argument("--folder", type=Path, help="an empty folder that is kept; else one that is removed")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="gens-chaos-"))
    try:
        rounds(folder, given.rounds, given.seed, given.executors.split(","), given.videos)
    except Fault as fault:
        print(f"fault: {fault}\nseed {given.seed}; see {folder}")
        return 1
    if given.folder is None:
        shutil.rmtree(folder)
    print(f"{given.rounds} rounds of seed {given.seed}: all questions once, rows as undisturbed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
