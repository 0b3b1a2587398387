"""A worker that crashes, hangs or is killed costs one task."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from bad_jobs import Bad, Counting, GivesUnreceivable, Good, Modules, OnceBad

from pipeline.errors import ConfigError, VideoError
from pipeline.execution import processes
from pipeline.execution.processes import Crash, Limits, Pool, Task
from pipeline.execution.streams import Unit, UnitStream

LIMITS = Limits(workers=2, deadline=60.0, memory_bytes=1 << 28, waiting_bytes=1 << 30)
HASTY = replace(LIMITS, deadline=1.0)
"""For jobs that never end. What does end may take longer on a machine that is busy with other work."""


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    made = Pool(LIMITS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def hasty() -> Iterator[Pool]:
    made = Pool(HASTY)
    yield made
    made.close()


class FailedError(Exception):
    def __init__(self, failure: Any) -> None:
        super().__init__(repr(failure))
        self.failure = failure


def stream_of(pool: Pool, *jobs: Any, seconds: float = 0.0, part_bytes: int = 0) -> UnitStream:
    changed = threading.Condition()
    units = []
    for job in jobs:
        unit = Unit(2, changed)
        unit.task = Task(
            job, lambda part, size, unit=unit: unit.on_part([part], size), unit.on_end, seconds, part_bytes
        )
        units.append(unit)
    return UnitStream(pool, units, None, FailedError)


def failure_of(pool: Pool, job: Any) -> Any:
    with pytest.raises(FailedError) as raised:
        list(stream_of(pool, job))
    return raised.value.failure


def assert_works(pool: Pool) -> None:
    # Of a hasty pool, these tasks have the usual deadline all the same: 20 times what they are said to take.
    found = list(stream_of(pool, Good(1), Good(2), seconds=3.0 if pool.limits == HASTY else 0.0))
    assert [found[0], found[2]] == [1, 2]
    assert (found[3] == 2).all()
    assert found[3].shape == (1 << 20, 3)


@pytest.mark.parametrize(
    ("act", "words", "is_final"),
    [
        ("sleep", "did not come to an end within 1 s", True),
        ("sleep_with_the_lock", "did not come to an end", True),
        ("abort", "SIGABRT", True),
        ("segfault", "SIGSEGV", True),
        ("leave", "exit code 3", True),
        ("die", "SIGKILL", False),
    ],
)
def test_a_worker_that_ends_is_replaced_and_its_task_fails(
    pool: Pool, hasty: Pool, act: str, words: str, is_final: bool
) -> None:
    pool = hasty if act.startswith("sleep") else pool
    failure = failure_of(pool, Bad(act))
    assert isinstance(failure, Crash)
    assert words in failure.reason
    assert failure.is_final is is_final
    assert_works(pool)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("leave_by_exception", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("break_off", "by zero"),
        ("allocate", "needs more than 0.268 GB"),
    ],
)
def test_whatever_a_decoder_raises_fails_its_video_and_spares_the_worker(pool: Pool, act: str, words: str) -> None:
    assert_works(pool)
    before = set(pool.pids)
    failure = failure_of(pool, Bad(act))
    assert isinstance(failure, VideoError)
    assert words in failure.problem
    assert set(pool.pids) == before
    assert_works(pool)


def test_parts_before_a_crash_are_given_once(pool: Pool, tmp_path: Path) -> None:
    assert list(stream_of(pool, OnceBad(str(tmp_path / "mark")))) == [0, 1]
    stream = stream_of(pool, Bad("abort", before=3))
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FailedError):
        next(stream)
    assert list(stream) == []
    assert pool.waiting_bytes == 0


def test_a_cancelled_job_stops_after_its_part(pool: Pool, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    stream = stream_of(pool, Counting(str(parts)))
    assert next(stream) == 0
    stream.close()
    assert_works(pool)
    time.sleep(0.2)
    assert parts.stat().st_size < 100
    assert pool.waiting_bytes == 0


def test_a_part_that_comes_while_its_stream_is_closed_does_not_count_as_waiting(pool: Pool) -> None:
    changed = threading.Condition()
    unit = Unit(2, changed)
    task = unit.task = Task(Good(1), unit.on_part, unit.on_end)
    UnitStream(pool, [unit], None, FailedError).close()
    assert_works(pool)
    before = pool.waiting_bytes
    task.on_part([], 5)  # as the pool calls it if it looked before the task was cancelled
    assert pool.waiting_bytes == before - 5
    assert not unit.parts
    pool.taken(-5)


def test_a_result_that_cannot_be_received_costs_its_task(pool: Pool) -> None:
    failure = failure_of(pool, GivesUnreceivable())
    assert isinstance(failure, Crash)
    assert "cannot be received (ValueError" in failure.reason
    assert not failure.is_final
    assert_works(pool)


def test_streams_may_be_closed_by_the_garbage_collector_in_any_thread(pool: Pool) -> None:
    """Also in one that has the lock of the pool."""

    def close() -> None:
        with pool._lock:
            stream_of(pool, Good(1)).close()

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()


@pytest.fixture
def own_pool() -> Iterator[Pool]:
    made = Pool(LIMITS)
    yield made
    made.close()


def refuse(*_: object, **__: object) -> None:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_system_that_allows_no_process_or_no_file_blames_no_video(
    own_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", refuse)
        failure = failure_of(own_pool, Good(1))
        assert isinstance(failure, ConfigError)
        assert "do not start: Resource temporarily unavailable" in failure.problem
        assert failure.remedy.endswith("execution.decode_workers=0")
    assert_works(own_pool)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, most[1]))
        failure = failure_of(own_pool, Good(2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    assert isinstance(failure, ConfigError)
    assert "Too many open files" in failure.problem
    assert_works(own_pool)


def test_a_first_worker_for_which_no_file_can_be_opened_does_not_end_the_pool(own_pool: Pool) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, most[1]))
        failure = failure_of(own_pool, Good(1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    assert isinstance(failure, ConfigError)
    assert "Too many open files" in failure.problem
    assert_works(own_pool)


def test_workers_that_are_there_go_on_where_no_more_can_be_started(
    own_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_works(own_pool)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert list(stream_of(own_pool, *map(Good, range(4)), seconds=9.0))[::2] == [0, 1, 2, 3]


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_killing_workers_never_blocks_the_pool(pool: Pool) -> None:
    """Idle and busy ones, also while they send; no task is lost."""
    random = np.random.default_rng(0)
    lost = 0
    for number in range(24):
        for pid in pool.pids[: number % 2]:  # every other time, in the first 30 ms of the task, if there is a worker
            threading.Timer(random.uniform(0, 0.03), kill, [pid]).start()
        try:
            first, second = stream_of(pool, Good(number))
            assert first == number
            assert (second == number).all()
        except FailedError:  # killed twice
            lost += 1
    assert lost < 4
    assert_works(pool)


def test_waiting_results_are_bounded_by_bytes_over_all_streams(pool: Pool) -> None:
    part = 3 << 20
    small = Pool(Limits(2, 30.0, 1 << 30, waiting_bytes=4 * part))
    streams = [stream_of(small, *map(Good, range(6)), seconds=5.0, part_bytes=part) for _ in range(2)]
    try:
        deadline = time.monotonic() + 60
        while not (small.waiting_bytes >= 2 * part and streams[0].ready(2)) and time.monotonic() < deadline:
            assert small.waiting_bytes <= 5 * part
            time.sleep(0.05)
        settled = time.monotonic() + 0.5
        while time.monotonic() < settled:
            assert small.waiting_bytes <= 5 * part
            time.sleep(0.05)
        assert streams[0].ready(2)
        assert not streams[1].ready(12)
        later, earlier = (list(stream) for stream in reversed(streams))  # the one that came second is wanted first
        assert [item for item in later if isinstance(item, int)] == list(range(6)) == earlier[::2]
        assert small.waiting_bytes == 0
        streams = [stream_of(small, *map(Good, range(6)), part_bytes=part)]
        next(streams[0])
        streams[0].close()
        assert_works(small)
        deadline = time.monotonic() + 60
        while small.waiting_bytes and time.monotonic() < deadline:
            time.sleep(0.02)
        assert small.waiting_bytes == 0
    finally:
        small.close()


def test_a_worker_is_recycled_imports_no_torch_and_leaves_no_descriptors(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_JOBS", 3)
    pids = set()
    open_before = 0
    for number in range(12):
        [(modules, pid)] = stream_of(pool, Modules())
        pids.add(pid)
        assert not {"torch", "transformers"} & set(modules)
        if number == 4:
            open_before = psutil.Process().num_fds()
    assert len(pids) > 2
    assert psutil.Process().num_fds() <= open_before + 4


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from bad_jobs import Bad, Modules
from test_processes import LIMITS, stream_of
from pipeline.execution.processes import Pool
pool = Pool(LIMITS)
[(modules, pid)] = stream_of(pool, Modules())
print(pid, flush=True)
{end}
"""


def script(tmp_path: Path, end: str) -> subprocess.Popen[str]:
    """Without a main guard."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(tests=str(Path(__file__).parent), end=end))
    return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_script_without_a_main_guard_ends_quietly_with_its_workers(tmp_path: Path) -> None:
    running = script(tmp_path, "")
    said, errors = running.communicate(timeout=60)
    assert running.returncode == 0
    assert errors == ""
    assert is_gone(int(said))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent_even_if_it_hangs(tmp_path: Path, number: signal.Signals) -> None:
    running = script(tmp_path, "next(stream_of(pool, Bad('sleep_with_the_lock'), seconds=9.0))")
    assert running.stdout is not None
    pid = int(running.stdout.readline())
    time.sleep(0.3)
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert is_gone(pid)
    assert "bad_jobs" not in errors


def test_states_say_what_every_worker_does_and_since_when(hasty: Pool) -> None:
    assert_works(hasty)
    began = time.time()
    reader = threading.Thread(target=failure_of, args=(hasty, Bad("sleep")))
    reader.start()
    busy: list[dict[str, Any]] = []
    while not busy and time.time() < began + 60:
        time.sleep(0.01)  # asked without a pause, the pool's lock is hardly ever free for its own thread
        busy = [state for state in hasty.states() if state["video"]]
    seen = time.time()
    reader.join()
    (state,) = busy
    assert (state["state"], state["video"]) == ("reading", Bad("sleep").path)
    assert began - 0.1 < state["since"] < seen + 0.1
    assert all(each["state"] in ("idle", "starting") for each in hasty.states())
