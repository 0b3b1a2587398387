"""Worker processes that read videos. A process that crashes, hangs or is killed costs one task, and is replaced.

A pool of our own, since the death of a worker must not touch the others: pebble 5.2 and concurrent.futures give all
workers one pipe with a lock. With pebble on loky's context, one SIGKILL a second failed all the tasks that waited, and
then blocked. Here each worker has a socket of its own, no lock is shared, and one thread of the parent does the rest.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from pipeline.errors import ConfigError
from pipeline.execution.parcels import WITHOUT_WORKERS, Parcel, memory_file, receive
from pipeline.execution.worker import GO_ON, STOP, Job
from pipeline.spans import WORKER, note

ATTEMPTS = 2
"""How often a task is tried whose worker dies."""
_JOBS = 256
"""Jobs after which a worker is replaced by a fresh one, since libraries leak memory."""
_HELD = 4
"""Values that a worker keeps for its next jobs."""
_WORTH_A_WORKER = 1.0
"""Seconds of waiting work for each worker there is, above which another one is started."""
_SLOWER = 20.0
"""How much longer than usual a part of a result may take, if that is more than the deadline."""
_START_SECONDS = 120.0
"""In which a process must have started: it imports from a disk that may be slow."""
_FAILED_STARTS = 3
_START = """import json, sys
sys.path[:] = json.loads(sys.argv[1])
from pipeline.execution.worker import serve
serve(*map(int, sys.argv[2:]))"""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Limits:
    """How many workers there are, and what they may take."""

    workers: int
    deadline: float
    """Seconds for one part of a result; 20 times its usual time where that is more."""
    memory_bytes: int
    """Of one worker."""
    waiting_bytes: int
    """Of results that nobody has taken yet, together."""


@dataclass(frozen=True)
class Crash:
    """Why a task has no result: its worker died twice."""

    reason: str
    is_final: bool
    """Whether it would happen again; not so after a SIGKILL from outside, as the kernel sends it when memory ends."""
    within: float | None = None
    """Seconds that were not enough; with more it may not happen again."""


@dataclass(eq=False)
class Task:
    """A job on its way. Both functions are called in the thread of the pool and must not wait."""

    job: Job
    on_part: Callable[[Any, int], None]
    """Called with each part of the result and its bytes, which count as waiting until :meth:`Pool.taken`."""
    on_end: Callable[[Crash | BaseException | None], None]
    """Called once, with the failure if there is one."""
    seconds: float = 0.0
    """How long the job usually takes."""
    part_bytes: int = 0
    """The approximate size of one part of the result."""
    needs: Mapping[str, Parcel] = field(default_factory=dict)
    """Values that the job asks for, by key. Each is sent to a worker once."""
    leads_to: float = 0.0
    """Seconds of work that its result will make, for which workers start meanwhile."""
    is_urgent: bool = False
    """Whether somebody waits for the next part. It then comes before others, and whatever else is waiting."""
    attempts: int = 0
    delivered: int = 0
    is_cancelled: bool = False


class _Worker:
    """One process, and the parent's end of its socket."""

    def __init__(self, memory_bytes: int) -> None:
        self.task: Task | None = None
        self.is_ready = False
        self.is_paused = False
        """It has sent a part of a result, and waits to be told to go on."""
        self.is_repeating = False
        """That part was delivered by the worker before, which died."""
        self.parts = 0
        self.jobs = 0
        self.held: OrderedDict[str, None] = OrderedDict()
        self.begun = time.monotonic()
        """When its task began, or the process itself."""
        self.since = self.begun
        """When the part of a result began that is under way."""
        self.verdict: Crash | None = None
        """Why the parent ended it."""
        with ExitStack() as failing:
            self.errors: IO[bytes] = failing.enter_context(os.fdopen(memory_file(), "w+b"))
            self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failing.callback(self.socket.close)
            words = [json.dumps(sys.path), str(theirs.fileno()), str(os.getpid()), str(memory_bytes)]
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _START, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self.errors,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), "CUDA_VISIBLE_DEVICES": ""},
                    process_group=0,  # Ctrl-C is for the parent, which ends its workers
                )
            failing.pop_all()  # from now on, end() closes them

    @property
    def name(self) -> str:
        return f"{WORKER} {self.process.pid}"

    @property
    def is_idle(self) -> bool:
        return self.is_ready and self.task is None

    def told(self) -> dict[str, Any]:
        task = self.task
        state = (
            "starting" if not self.is_ready else "idle" if task is None else "waiting" if self.is_paused else "reading"
        )
        since = time.time() - (time.monotonic() - self.begun)
        return {"pid": self.process.pid, "state": state, "video": task and task.job.path, "since": round(since, 3)}

    def end(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def last_line(self) -> str:
        """The last line that the process wrote about its end."""
        self.errors.seek(0)
        lines = self.errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""


class Pool:
    """Workers, started when there is work for them.

    Args:
        limits: of the workers.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        # Reentrant: the collector may close a stream of results, which says so here, while this thread has the lock.
        self._lock = threading.RLock()
        self._queue: deque[Task] = deque()
        self._workers: list[_Worker] = []
        self._waiting = 0  # bytes
        self._closed = False
        self._failed_starts = 0
        self._selector = selectors.DefaultSelector()
        self._wakes, self._woken = socket.socketpair()
        self._wakes.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        # Linux ends a worker with the thread that started it, so one thread starts them all.
        self._thread = threading.Thread(target=self._run, name="decode workers", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are there now."""
        with self._lock:
            return [worker.process.pid for worker in self._workers]

    def states(self) -> list[dict[str, Any]]:
        """What every worker is doing, for the events of a command.

        ``state`` is ``starting``, ``idle``, ``reading``, or ``waiting`` for its result to be taken; ``since`` is when
        its job began, or the process itself, in seconds since 1970.
        """
        with self._lock:
            return [worker.told() for worker in self._workers]

    @property
    def waiting_bytes(self) -> int:
        """Bytes of results that nobody has taken yet."""
        return self._waiting

    def submit(self, tasks: Sequence[Task]) -> None:
        """Queue tasks after those that are there."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._queue.extend(tasks)
        self._wake()

    def hurry(self, task: Task) -> None:
        """Say that the next part of this task's result is waited for."""
        if not task.is_urgent:
            task.is_urgent = True
            self._wake()

    def taken(self, count: int) -> None:
        """Count bytes of results as no longer waiting."""
        with self._lock:
            self._waiting -= count
        self._wake()

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Drop tasks. Nothing of their results is delivered from now on, except for what is under way."""
        for task in tasks:
            task.is_cancelled = True
        self._wake()

    def close(self) -> None:
        """End all workers at once."""
        with self._lock:
            self._closed = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        atexit.unregister(self.close)

    def _wake(self) -> None:
        with suppress(BlockingIOError, OSError):
            self._wakes.send(b"\0")

    def _run(self) -> None:
        try:
            while not self._closed:
                for key, _ in self._selector.select(self._until_deadline()):
                    if key.data is None:
                        with suppress(BlockingIOError):
                            self._woken.recv(4096)
                    else:
                        self._receive(key.data)
                self._end_hung()
                self._go_on()
                self._start_tasks()
        finally:
            left = [worker.task for worker in self._workers if worker.task]
            for worker in self._workers:
                worker.end()
            self._workers = []
            with self._lock:
                self._closed = True
                left += self._queue
                self._queue.clear()
            for task in left:
                task.on_end(RuntimeError("the pool was closed"))
            self._selector.close()
            self._wakes.close()
            self._woken.close()

    # What workers say

    def _receive(self, worker: _Worker) -> None:
        if worker not in self._workers:
            return
        try:
            (kind, value), size = receive(worker.socket)
        except ConfigError as error:
            self._drop(worker, error)
            return
        except (EOFError, OSError):
            self._gone(worker)
            return
        except Exception as error:  # must not end the other workers
            problem = f"was read, but the result cannot be received ({type(error).__name__}: {error})"
            self._end(worker, Crash(problem, is_final=False))
            return
        task = worker.task
        if kind == "ready":
            worker.is_ready = True
            note("start", worker.begun, worker.name)
            self._failed_starts = 0
        elif kind == "part":
            assert task is not None
            worker.is_paused = True
            worker.parts += 1
            worker.is_repeating = worker.parts <= task.delivered
            if not worker.is_repeating and not task.is_cancelled:
                task.delivered = worker.parts
                task.is_urgent = False
                with self._lock:
                    self._waiting += size
                task.on_part(value, size)
        else:
            assert task is not None
            self._release(worker)
            note(type(task.job).__name__.lower(), worker.begun, worker.name)
            task.on_end(value)
            if worker.jobs >= _JOBS:
                self._remove(worker)

    def _release(self, worker: _Worker) -> None:
        worker.task = None
        worker.is_paused = False

    def _remove(self, worker: _Worker) -> None:
        self._selector.unregister(worker.socket)
        with self._lock:
            self._workers.remove(worker)
        worker.end()

    def _end(self, worker: _Worker, verdict: Crash) -> None:
        worker.verdict = verdict
        worker.process.kill()
        self._gone(worker)

    def _gone(self, worker: _Worker) -> None:
        """A worker is gone: its task is tried once more."""
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(5)
        crash = worker.verdict or _crash(worker.process.returncode)
        task, was_ready, words = worker.task, worker.is_ready, worker.last_line()
        self._remove(worker)
        if task is None:
            self._failed_starts += 0 if was_ready else 1
            if self._failed_starts >= _FAILED_STARTS:
                self._give_up(words or crash.reason)
            return
        if task.attempts < ATTEMPTS:
            self._queue.appendleft(task)
        else:
            task.on_end(crash)

    def _drop(self, worker: _Worker, error: ConfigError) -> None:
        """A worker that this process lacks the means to talk with. No video is to blame."""
        if worker in self._workers:
            self._remove(worker)
            if worker.task is not None:
                worker.task.on_end(error)

    def _give_up(self, reason: str) -> None:
        error = ConfigError(f"the processes that read videos do not start: {reason}", WITHOUT_WORKERS)
        self._failed_starts = 0
        while self._queue:
            self._queue.popleft().on_end(error)

    def _end_hung(self) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if not worker.is_paused and (worker.task or not worker.is_ready) and now > self._deadline(worker):
                seconds = self._deadline(worker) - worker.since
                self._end(worker, Crash(f"did not come to an end within {seconds:g} s", True, seconds))

    def _until_deadline(self) -> float | None:
        ends = [self._deadline(each) for each in self._workers if not each.is_paused and not each.is_idle]
        return max(0.0, min(ends) - time.monotonic()) + 0.01 if ends else None

    def _deadline(self, worker: _Worker) -> float:
        if not worker.is_ready:
            return worker.since + max(self.limits.deadline, _START_SECONDS)
        usual = worker.task.seconds if worker.task else 0.0
        return worker.since + max(self.limits.deadline, _SLOWER * usual)

    # What workers are told

    def _go_on(self) -> None:
        for worker in list(self._workers):
            task = worker.task
            if not worker.is_paused or task is None:
                continue
            if task.is_cancelled or worker.is_repeating or task.is_urgent or self._has_room(task):
                worker.is_paused = False
                worker.since = time.monotonic()
                self._send(worker, (STOP if task.is_cancelled else GO_ON, None))

    def _has_room(self, task: Task) -> bool:
        coming = sum(each.task.part_bytes for each in self._workers if each.task and not each.is_paused)
        return not self._waiting + coming or self._waiting + coming + task.part_bytes <= self.limits.waiting_bytes

    def _start_tasks(self) -> None:
        while True:
            with self._lock:
                cancelled = [task for task in self._queue if task.is_cancelled]
                self._queue = deque(task for task in self._queue if not task.is_cancelled)
                queued = list(self._queue)
            for task in cancelled:
                task.on_end(None)
            worker = next((each for each in self._workers if each.is_idle), None)
            if worker is None or not queued:
                while self._is_worth_another(queued) and self._start_worker():
                    pass
                return
            task = next((each for each in queued if each.is_urgent), queued[0])
            if not (task.is_urgent or self._has_room(task)):
                return
            with self._lock:
                self._queue.remove(task)
            self._give(worker, task)

    def _is_worth_another(self, queued: Sequence[Task]) -> bool:
        active = sum(not worker.is_paused for worker in self._workers)
        if active == 0:  # also where all wait for memory, and what is waited for has not begun
            return bool(queued)
        waiting = sum(task.seconds + task.leads_to for task in queued)
        waiting += sum(worker.task.leads_to for worker in self._workers if worker.task)
        return active < self.limits.workers and waiting > _WORTH_A_WORKER * active

    def _start_worker(self) -> bool:
        """Start one, if the system allows it. The workers that are at work are enough to go on with."""
        try:
            worker = _Worker(self.limits.memory_bytes)
        except (OSError, ConfigError) as error:  # the system allows no further process or file
            if all(each.is_paused for each in self._workers):
                self._give_up(error.problem if isinstance(error, ConfigError) else error.strerror or str(error))
            return False
        self._selector.register(worker.socket, selectors.EVENT_READ, worker)
        with self._lock:
            self._workers.append(worker)
        return True

    def _give(self, worker: _Worker, task: Task) -> None:
        worker.task = task
        worker.parts = 0
        worker.jobs += 1
        worker.begun = worker.since = time.monotonic()
        task.attempts += 1
        for key, parcel in task.needs.items():
            if key not in worker.held:
                self._send(worker, ("hold", key), parcel)
            worker.held[key] = None
            worker.held.move_to_end(key)
        while len(worker.held) > max(_HELD, len(task.needs)):
            self._send(worker, ("drop", worker.held.popitem(last=False)[0]))
        self._send(worker, ("job", task.job))

    def _send(self, worker: _Worker, message: Any, then: Parcel | None = None) -> None:
        try:
            Parcel(message).send(worker.socket)
            if then is not None:
                then.send(worker.socket)
        except ConfigError as error:
            self._drop(worker, error)
        except OSError:  # it is gone, which the next receive notices
            pass


def _crash(code: int | None) -> Crash:
    if code is None:
        return Crash("closed its connection", is_final=True)
    if code >= 0:
        return Crash(f"ended the process that read it (exit code {code})", is_final=True)
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if -code == signal.SIGKILL:
        return Crash(f"was being read by a process that was killed ({name}), perhaps for lack of memory", False)
    return Crash(f"crashed the process that read it ({name})", is_final=True)
