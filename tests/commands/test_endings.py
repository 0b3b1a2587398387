"""However a command ends: exit code and outcome.json agree, finished rows are kept, a failure leaves no folder."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import environment_in, gens, gens_apart
from made import write_video

from pipeline.artefacts.journal import sole_writer
from pipeline.commands.outcome import JobStatus, Outcome, read_outcome, write_outcome

ROOT = Path(__file__).parent.parent.parent
ANSWERER = '''
import os
import signal
from dataclasses import dataclass

from pipeline.answerers import AnswererLimits
from pipeline.domain import Answer


@dataclass(frozen=True)
class Ending:
    """Answers, and does something to its own process before an answer, while the file `once` is there."""

    name: str
    before: int
    does: str

    is_repeatable = False

    def limits(self):
        return AnswererLimits(10000, 1, None, "not at all")

    def identity(self):
        return {"name": self.name}

    def capacity(self, request):
        return len(request.frames)

    def answer(self, requests, batch):
        for number, request in enumerate(requests):
            if number == self.before and os.path.exists("once"):
                os.remove("once")
                if self.does == "fault":
                    raise RuntimeError("a fault\\x1b[31m")
                for name in self.does.split():
                    os.kill(os.getpid(), getattr(signal, name))
            yield Answer(request.question.id, "A", option=0)

    def close(self):
        pass
'''


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4")
    rows = [
        {"id": name, "video": "clip.mp4", "question": f"what is {name}?", "options": ["a", "b"], "answer": "a"}
        for name in ("one", "two", "three")
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "ending.py").write_text(ANSWERER)
    (tmp_path / "mine" / "answerer").mkdir(parents=True)
    node = {"_target_": "ending.Ending", "name": "ending", "before": 1, "does": "fault", "about": {"what": "ends"}}
    (tmp_path / "mine" / "answerer" / "ending.yaml").write_text(json.dumps(node))
    (tmp_path / "once").touch()
    return tmp_path


NO_KEY = "answerer.api_key_env=A_KEY_THAT_IS_NOT_SET"
WORDS = (
    "benchmark=jsonl",
    "benchmark.path=q.jsonl",
    "sampler=uniform",
    "selection.budget=2",
    "execution.answer_batch=1",
)
ENDING = ("evaluate", "--config-dir", "mine", "plugins=[ending]", *WORDS, "answerer=ending", "execution.answer_batch=1")


def run(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return gens_apart(*words, cwd=home, PYTHONPATH=f"{ROOT}:{home}", **environment)


def only(home: Path, pattern: str) -> Path:
    (found,) = home.glob(pattern)
    return found


def answered(home: Path) -> list[str]:
    lines = only(home, "runs/evaluate-*/answers.jsonl").read_text().splitlines()
    return [json.loads(line)["answer"]["question_id"] for line in lines]


@pytest.mark.parametrize(
    ("does", "code", "finished"),
    [
        ("SIGTERM", 143, ["one"]),
        ("SIGHUP", 129, ["one"]),
        ("SIGINT", 130, ["one", "two"]),
        ("SIGINT SIGINT", 130, ["one"]),
    ],
)
def test_a_signal_ends_a_command_and_the_same_command_goes_on(
    home: Path, does: str, code: int, finished: list[str]
) -> None:
    ended = run(home, *ENDING, f"answerer.does={does}")
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "the same command continues from here" in ended.stderr
    outcome = read_outcome(only(home, "runs/evaluate-*"))
    assert (outcome.status, outcome.code) == (JobStatus.INTERRUPTED, code)
    assert answered(home) == finished
    again = run(home, *ENDING, f"answerer.does={does}")
    assert again.returncode == 0, again.stderr
    assert answered(home) == ["one", "two", "three"]
    assert read_outcome(only(home, "runs/evaluate-*")) == Outcome(JobStatus.DONE, 0)


def test_a_signal_that_is_ignored_ends_nothing(home: Path) -> None:
    command = f"trap '' HUP; exec {sys.executable} -m pipeline {' '.join(ENDING)} answerer.does=SIGHUP"
    environment = {**os.environ, **environment_in(home, {}), "PYTHONPATH": f"{ROOT}:{home}"}
    done = subprocess.run(["bash", "-c", command], cwd=home, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_sweep_that_is_ended_leaves_a_summary_with_the_code(home: Path) -> None:
    ended = run(home, *ENDING[:1], "-m", *ENDING[1:], "answerer.does=SIGTERM", "selection.budget=2,3")
    assert ended.returncode == 143, ended.stderr
    jobs = json.loads(only(home, "runs/sweep-*/sweep.json").read_text())["jobs"]
    assert [(job["status"], job["code"]) for job in jobs] == [("interrupted", 143), ("not started", None)]


def test_a_fault_is_code_3_in_both_and_keeps_its_rows(home: Path) -> None:
    ended = run(home, *ENDING)
    assert ended.returncode == 3
    assert "RuntimeError: a fault\\u001b[31m" in ended.stderr
    outcome = read_outcome(only(home, "runs/evaluate-*"))
    assert (outcome.status, outcome.code) == (JobStatus.FAILED, 3)
    assert "ending.py" in outcome.traceback
    assert answered(home) == ["one"]


def test_a_closed_pipe_ends_a_command_as_its_signal_would(home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pipeline", *ENDING, "answerer.does=none", "answerer.before=9"]
    environment = {**os.environ, **environment_in(home, {}), "PYTHONPATH": f"{ROOT}:{home}"}
    done = subprocess.run(command, cwd=home, env=environment, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr
    outcome = read_outcome(only(home, "runs/evaluate-*"))
    assert (outcome.status, outcome.code) == (JobStatus.INTERRUPTED, 141)
    assert answered(home) == ["one", "two", "three"]


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", *WORDS, "selection.budget=0"),
        ("evaluate", *WORDS, "answerer.checkpoint.source=/nowhere"),
        ("evaluate", *WORDS, "answerer=openai", "answerer.model=m", "answerer.base_url=http://x/v1", NO_KEY),
        ("evaluate", *WORDS, "benchmark.path=gone.jsonl"),
        ("evaluate", *WORDS, "paths.runs=deep/er/runs", "limit=0"),
        ("evaluate", *WORDS, "paths.cache=q.jsonl"),
        ("sample", *WORDS[:4], "sampler=gens_3b", "sampler.checkpoint.source=/nowhere"),
        ("answer", "selections=gone.jsonl"),
        ("ask", "video=clip.mp4", "question=what?", "options=[a, b]", "answer=z"),
        ("compare", "first=gone", "second=gone"),
        ("report", "runs=gone"),
        ("check", *WORDS, "selection.budget=0"),
        ("export", "selections=gone.jsonl"),
        ("recall", *WORDS[:3]),
        ("demo", "benchmark.videos=0"),
        ("evaluate", "-m", *WORDS, "selection.budget=0,-1"),
    ],
)
def test_a_command_that_fails_leaves_nothing_behind(home: Path, words: tuple[str, ...]) -> None:
    before = files(home)
    done = gens(*words, cwd=home)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert files(home) == before


def files(home: Path) -> list[Path]:
    """All but the cache, in which checksums of checkpoints stay."""
    return sorted(path for path in home.rglob("*") if home / "cache" not in (path, *path.parents))


def test_a_run_folder_with_rows_is_never_removed(home: Path) -> None:
    (home / "once").unlink()
    assert run(home, *ENDING).returncode == 0
    folder = only(home, "runs/evaluate-*")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".jsonl"}
    (home / "q.jsonl").rename(home / "elsewhere.jsonl")
    failed = run(home, *ENDING)
    assert failed.returncode == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".jsonl"} == before
    outcome = read_outcome(folder)
    assert (outcome.status, outcome.code) == (JobStatus.FAILED, 2)
    assert "q.jsonl" in outcome.problem


def test_a_second_process_leaves_the_outcome_of_the_first(home: Path) -> None:
    (home / "once").unlink()
    assert run(home, *ENDING).returncode == 0
    folder = only(home, "runs/evaluate-*")
    with sole_writer(folder):
        write_outcome(Outcome(JobStatus.RUNNING), folder)
        refused = run(home, *ENDING)
    assert refused.returncode == 2
    assert "another process is using" in refused.stderr
    assert read_outcome(folder) == Outcome(JobStatus.RUNNING)


def limited(size: int) -> Any:
    """Files of this process may have so many bytes: as a disk that is full, at a place that the test chooses."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize(
    ("size", "file"),
    [
        (0, ".json"),
        (1000, "outcome.json"),
        (2100, ".jsonl"),
        (20_000, "report.html"),
    ],
)
def test_a_full_disk_is_told_with_the_file_and_truthfully(home: Path, size: int, file: str) -> None:
    (home / "once").unlink()
    # The limit also holds for memory that processes share, which a full disk leaves alone.
    command = [sys.executable, "-B", "-m", "pipeline", *ENDING, "execution.decode_workers=0"]
    environment = {**os.environ, **environment_in(home, {}), "PYTHONPATH": f"{ROOT}:{home}"}
    done = subprocess.run(
        command, cwd=home, env=environment, capture_output=True, text=True, check=False, preexec_fn=limited(size)
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert file in error
    assert error.endswith("cannot be written: File too large")
    assert "free some space, then run the same command" in done.stderr
    for outcome in map(read_outcome, home.glob("runs/evaluate-*")):
        assert (outcome.status, outcome.code) == (JobStatus.FAILED, 2)
    again = run(home, *ENDING)
    assert again.returncode == 0, again.stderr
    assert answered(home) == ["one", "two", "three"]


def on_small_disk(home: Path, kilobytes: int) -> subprocess.CompletedProcess[str]:
    """The command with a disk of its own under ``runs``, whose outcome.json is copied out."""
    script = (
        f"mkdir -p runs && mount -t tmpfs -o size={kilobytes}k none runs || exit 77; "
        f"{sys.executable} -B -m pipeline {' '.join(ENDING)}; code=$?; "
        "cat runs/evaluate-*/outcome.json > outcome.json; exit $code"
    )
    environment = {**os.environ, **environment_in(home, {}), "PYTHONPATH": f"{ROOT}:{home}"}
    return subprocess.run(
        ["unshare", "-m", "bash", "-c", script], cwd=home, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root to mount a small disk")
@pytest.mark.parametrize("kilobytes", [24, 32, 40])
def test_a_disk_without_a_free_block_still_gets_the_outcome(home: Path, kilobytes: int) -> None:
    (home / "once").unlink()
    done = on_small_disk(home, kilobytes)
    if done.returncode in (1, 77) and "mount" in done.stderr:
        pytest.skip("no mounting here")
    assert done.returncode == 2, done.stderr
    assert "No space left on device" in done.stderr
    assert "free some space, then run the same command" in done.stderr
    assert "Traceback" not in done.stderr
    outcome = read_outcome(home)
    assert (outcome.status, outcome.code) == (JobStatus.FAILED, 2)
    assert "No space left on device" in outcome.problem
