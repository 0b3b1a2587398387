"""``gens status`` and ``gens runs``: what a run folder says from outside, whole, dead, far away or damaged."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import gens

from pipeline.artefacts.journal import LOCK_FILE, sole_writer
from pipeline.commands import clearing
from pipeline.commands.outcome import JobStatus, Outcome, write_outcome
from pipeline.commands.run_state import Life, find_runs, read_state
from pipeline.execution.events import EVENTS_FILE

NOW = 1_700_000_000.0
WORKING = """
import sys, time
from pathlib import Path
from pipeline.artefacts.cache import AnswerCache
from pipeline.commands.outcome import running
from pipeline.domain import Status
from pipeline.execution.events import following
folder = Path(sys.argv[1])
with running(folder) as events, following("answering", 100, AnswerCache(folder)) as finished:
    for _ in range(3):
        finished(Status.OK)
    finished(Status.OUT_OF_MEMORY)
    events.write("progress", stage="answering", total=100, done=4, failed={"out_of_memory": 1})
    time.sleep(600)
"""


def event(kind: str, elapsed: float, at: float | None = None, **fields: Any) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(NOW + elapsed if at is None else at))
    return json.dumps({"event": kind, "time": moment, "elapsed": elapsed, **fields}) + "\n"


def a_run(folder: Path, status: JobStatus = JobStatus.RUNNING, host: str | None = None, events: str = "") -> Path:
    folder.mkdir(parents=True)
    write_outcome(Outcome(status, None if status is JobStatus.RUNNING else 0), folder)
    facts = {"command": "gens evaluate", "host": host or socket.gethostname(), "process": 7, "versions": {"av": "1"}}
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / LOCK_FILE).touch()
    if events:
        (folder / EVENTS_FILE).write_text(events)
    return folder


def seen(folder: Path, sign: float) -> None:
    """Last written at that second, by the file system's clock."""
    os.utime(folder / EVENTS_FILE, (sign, sign))


@pytest.fixture
def working(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works in runs/one."""
    folder = tmp_path / "runs" / "one"
    process = subprocess.Popen([sys.executable, "-c", WORKING, str(folder)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (folder / EVENTS_FILE).is_file() and '"done": 4' in (folder / EVENTS_FILE).read_text():
            break
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def test_a_run_is_seen_while_it_runs_and_after_it_was_killed(tmp_path: Path, working: subprocess.Popen[bytes]) -> None:
    told = gens("status", cwd=tmp_path).stdout
    assert "runs/one: running" in told
    assert "answering 4 of 100, 96 left; 1 failed: 1 out_of_memory" in told
    assert "1 of 1 runs in runs are running" in told
    working.send_signal(signal.SIGKILL)
    working.wait()
    told = gens("status", "one", cwd=tmp_path).stdout
    assert "runs/one: killed" in told
    assert "answering 4 of 100, 96 left" in told
    assert "run the same command again" in told
    assert "to go" not in told
    assert "0 of 1 runs in runs are running, and 1 were killed" in gens("status", cwd=tmp_path).stdout


def test_rate_and_time_left_are_of_late(tmp_path: Path) -> None:
    """An hour of 1 a second, then half an hour of 2 a second: the next are expected at 2 a second."""
    slow = [event("progress", at, stage="answering", total=10000, done=at) for at in range(0, 3600, 60)]
    fast = [
        event("progress", 3600 + at, stage="answering", total=10000, done=3600 + 2 * at) for at in range(0, 1801, 60)
    ]
    run = a_run(tmp_path / "one", events=event("start", 0) + "".join(slow + fast))
    (stage,) = read_state(run, NOW).stages
    assert stage.rate == pytest.approx(2.0)
    assert stage.seconds_left == pytest.approx((10000 - 7200) / 2)


def test_only_the_last_command_of_a_folder_counts(tmp_path: Path) -> None:
    first = event("start", 0) + event("progress", 5, stage="sampling", total=9, done=9)
    second = event("start", 0) + event("progress", 1, stage="sampling", total=9, done=2)
    run = a_run(tmp_path / "one", events=first + second)
    assert [stage.done for stage in read_state(run, NOW).stages] == [2]


def test_a_lock_that_another_machine_has_left_is_doubted(tmp_path: Path) -> None:
    run = a_run(tmp_path / "one", host="elsewhere", events=event("start", 0))
    seen(run, NOW)
    with sole_writer(run):
        assert read_state(run, NOW + 60).life is Life.RUNNING
        assert read_state(run, NOW + 3600).life is Life.SILENT
    here = a_run(tmp_path / "two", events=event("start", 0))
    seen(here, NOW)
    with sole_writer(here):
        assert read_state(here, NOW + 3600).life is Life.RUNNING
    assert read_state(here, NOW + 60).life is Life.KILLED


def test_a_machine_whose_locks_are_not_seen_is_known_by_its_signs(tmp_path: Path) -> None:
    run = a_run(tmp_path / "one", host="elsewhere", events=event("start", 0))
    seen(run, NOW)
    assert read_state(run, NOW + 60).life is Life.RUNNING
    assert read_state(run, NOW + 3600).life is Life.SILENT
    told = gens("status", str(run), cwd=tmp_path).stdout
    assert "look for process 7 on elsewhere" in told


@pytest.mark.parametrize(("off", "words"), [(7200.0, "2:00:00 ahead of"), (-7200.0, "2:00:00 behind")])
def test_a_clock_that_differs_kills_nobody_and_is_told(tmp_path: Path, off: float, words: str) -> None:
    now = int(time.time())
    run = a_run(tmp_path / "runs" / "one", host="elsewhere", events=event("start", 0, at=now + off))
    seen(run, now)
    assert read_state(run, now).life is Life.RUNNING
    assert f"the clock of elsewhere is {words}" in gens("status", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"[]", b'{"event": 3}', b'{"event": "progress", "time": "now"}', b'{"time": {"a": [', b"NaN"]
)
def test_unreadable_events_are_passed_over_and_counted(tmp_path: Path, line: bytes) -> None:
    run = a_run(tmp_path / "one", events=event("start", 0))
    whole = event("progress", 3, stage="sampling", total=9, done=4).encode()
    with (run / EVENTS_FILE).open("ab") as file:
        file.write(line + b"\n" + whole + b'{"event": "progress", "done": 8')
    state = read_state(run, NOW)
    assert [stage.done for stage in state.stages] == [4]
    assert state.unreadable == 1
    assert "1 lines of its events cannot be read" in gens("status", str(run), cwd=tmp_path).stdout


@pytest.mark.parametrize("left", ["run.json", "outcome.json", LOCK_FILE, EVENTS_FILE])
def test_a_half_removed_folder_is_still_shown(tmp_path: Path, left: str) -> None:
    run = a_run(tmp_path / "runs" / "one", JobStatus.DONE, events=event("progress", 3, stage="sampling", total=9))
    for path in run.iterdir():
        if path.name != left:
            path.unlink()
    for verb in ("status", "runs"):
        done = gens(verb, *(["one"] if verb == "status" else []), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "runs/one" in done.stdout


def test_prune_removes_nothing_without_yes(tmp_path: Path) -> None:
    run = a_run(tmp_path / "runs" / "one", JobStatus.FAILED)
    done = gens("runs", "--prune", cwd=tmp_path)
    assert "would be removed: runs/one" in done.stdout
    assert "gens runs --prune --yes removes them" in done.stdout
    assert run.is_dir()
    assert gens("runs", "--yes", cwd=tmp_path).returncode == 2
    assert run.is_dir()


def test_prune_removes_only_what_holds_nothing_and_is_in_use_by_nobody(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    gone = [
        a_run(runs / "failed", JobStatus.FAILED),
        a_run(runs / "killed", events=event("start", 0)),
        a_run(runs / "deeper" / "interrupted", JobStatus.INTERRUPTED),
    ]
    (gone[0] / "answers.jsonl").touch()
    kept = [
        a_run(runs / name, JobStatus.DONE) for name in ("rows", "notes", "compared", "with-a-cache", "unfinished-rows")
    ]
    (kept[0] / "answers.jsonl").write_text("{}\n")
    (kept[1] / "notes.txt").write_text("mine")
    (kept[2] / "comparison.json").write_text("{}")
    (kept[3] / "cache").mkdir()
    (kept[4] / "part").mkdir()
    (kept[4] / "part" / "relevance.jsonl").write_text('{"schema"')
    kept.append(a_run(runs / "far", host="elsewhere", events=event("start", 0)))
    held = a_run(runs / "held", JobStatus.FAILED)
    (runs / "not-a-run").mkdir()
    outside = a_run(tmp_path / "outside", JobStatus.FAILED)
    (runs / "link").symlink_to(outside)
    with sole_writer(held):
        # The lock alone, since its outcome says that it has ended.
        done = gens("runs", "--prune", "--yes", f"paths.cache={kept[3]}/cache", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "kept: runs/held, which is in use" in done.stderr
    assert not [folder.name for folder in gone if folder.exists()]
    assert all(folder.is_dir() for folder in (*kept, held, runs / "not-a-run", outside))
    assert len(list(kept[0].iterdir())) == 4


def test_prune_touches_nothing_that_others_may_have_put_there(tmp_path: Path) -> None:
    """Files whose names are ours, links, and folders within the folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("precious")
    runs = tmp_path / "runs"

    def a_failure(name: str) -> Path:
        return a_run(runs / name, JobStatus.FAILED)

    kept = [a_failure("link-to-rows"), a_failure("link-to-a-folder"), a_failure("link-to-a-log"), a_failure("pipe")]
    (kept[0] / "answers.jsonl").symlink_to(outside / "precious.txt")
    (kept[1] / "part").symlink_to(outside)
    (kept[2] / "gens.log").symlink_to(outside / "precious.txt")
    os.mkfifo(kept[3] / "gens.log")
    kept += [a_failure("a-download"), a_failure("a-benchmark"), a_failure("a-folder"), a_failure("a-project")]
    (kept[4] / "movie.mp4.part").write_text("half")
    (kept[5] / "questions.jsonl").write_text('{"video": "mine.mp4", "question": "What?"}\n')
    (kept[6] / "mine").mkdir()
    (kept[7] / "mine").mkdir()
    (kept[7] / "mine" / "config.yaml").write_text("mine: 1")
    nobody = runs / "of-another-program"
    nobody.mkdir()
    for name in ("config.yaml", "run.json"):
        (nobody / name).write_text("{}")
    gone = a_failure("gone")
    (gone / f".{'0' * 16}.part").write_text("half")
    a_run(gone / "inner", JobStatus.FAILED)
    told = gens("runs", "--prune", cwd=tmp_path).stdout
    assert [line for line in told.splitlines() if line.startswith("would be")] == ["would be removed: runs/gone"]
    before = sorted(str(path) for path in runs.rglob("*") if not path.is_relative_to(gone))
    done = gens("runs", "--prune", "--yes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(str(path) for path in runs.rglob("*") if path != gone) == before
    assert (outside / "precious.txt").read_text() == "precious"


def test_what_is_put_into_a_folder_while_it_is_removed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path / "one", JobStatus.FAILED)
    looked = clearing._leftovers

    def and_then(folder: Path) -> list[Path] | None:
        found = looked(folder)
        (folder / "answers.jsonl").write_text("a row")
        return found

    monkeypatch.setattr(clearing, "_leftovers", and_then)
    clearing.remove_without_rows(run)
    assert (run / "answers.jsonl").read_text() == "a row"


def test_thousands_of_runs_are_listed_in_seconds(tmp_path: Path) -> None:
    lines = event("start", 0) + "".join(
        event("progress", at, stage="answering", total=999, done=at) for at in range(900)
    )
    first = a_run(tmp_path / "runs" / "run-0", JobStatus.DONE, events=lines)
    for number in range(1, 2000):
        folder = tmp_path / "runs" / f"run-{number}"
        folder.mkdir()
        for file in first.iterdir():
            os.link(file, folder / file.name)
    assert len(list(find_runs(tmp_path / "runs"))) == 2000
    began = time.process_time()
    done = gens("runs", cwd=tmp_path)
    assert time.process_time() - began < 20
    assert done.stdout.count("899/999") == 2000
    assert "2000 runs in runs" in done.stdout


def test_workers_are_told_with_what_they_do_and_since_when(tmp_path: Path) -> None:
    """The last event of each counts, and of decode workers the last list."""
    now = float(int(time.time()))
    clip, other = str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")
    said = [
        {"worker": 1, "pid": 12, "gpu": "1", "state": "loading", "video": None, "since": now - 90},
        {"worker": 0, "pid": 11, "gpu": "0", "state": "idle", "video": None, "since": now - 90},
        {"worker": 1, "pid": 12, "gpu": "1", "state": "sampling", "video": clip, "since": now - 64},
        {"worker": 2, "pid": 13, "gpu": "", "state": "dead", "video": other, "since": now - 30, "host": "elsewhere"},
    ]
    lines = event("start", 0, at=now - 100) + "".join(event("worker", 1, at=now, **fields) for fields in said)
    reading = {"pid": 21, "state": "reading", "video": other, "since": now - 7}
    for decoders in ([{"pid": 20, "state": "idle", "video": None, "since": 0.0}], [reading]):
        lines += event("progress", 9, at=now, stage="sampling", total=9, done=4, decoders=decoders)
    run = a_run(tmp_path / "runs" / "one", events=lines)
    with sole_writer(run):
        told = gens("status", cwd=tmp_path).stdout
        state = json.loads(gens("status", "one", "--json", cwd=tmp_path).stdout)[0]
    assert "sampling 4 of 9, 5 left" in told
    assert "worker 0  GPU 0, process 11: idle" in told
    assert re.search(r"worker 1  GPU 1, process 12: sampling a\.mp4 for 1:0\d$", told, re.M)
    assert "worker 2  process 13, elsewhere: dead" in told
    assert re.search(r"decoder  process 21: reading b\.mp4 for 0:\d\d$", told, re.M)
    assert "process 20" not in told
    assert [(worker["pid"], worker["state"]) for worker in state["workers"]] == [
        (11, "idle"),
        (12, "sampling"),
        (13, "dead"),
        (21, "reading"),
    ]
    assert "worker 0" not in gens("status", "one", cwd=tmp_path).stdout, "of a run that was killed"


def test_stages_that_overlap_are_told_once_each_without_workers_that_have_ended(tmp_path: Path) -> None:
    worker = {"worker": 0, "pid": 11, "gpu": "0", "video": None, "since": NOW}
    lines = event("start", 0) + "".join(event("stage", 1, stage=name, total=9) for name in ("sampling", "answering"))
    for done in range(1, 5):
        lines += event("progress", 10 * done + 1, stage="answering", total=9, done=done)
        lines += event("progress", 10 * done + 1, stage="sampling", total=9, done=2 * done)
        lines += event("worker", 10 * done + 1, **worker, state="sampling" if done < 4 else "ended")
    state = read_state(a_run(tmp_path / "one", events=lines), NOW)
    assert [(stage.stage, stage.done, stage.rate) for stage in state.stages] == [
        ("sampling", 8, pytest.approx(0.2)),
        ("answering", 4, pytest.approx(0.1)),
    ]
    assert state.workers == ()
