"""Several processes of this machine that compute, each with a model and GPUs of its own.

They pull a video at a time and know nothing of each other, so that none waits for a slow one. A process that dies is
replaced, and its videos go to another. The driver alone writes run folders.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import IO

from pipeline.errors import ConfigError, PipelineError
from pipeline.execution.decoding import usable_cores
from pipeline.execution.dispatch import Dispatch
from pipeline.execution.events import worker_state
from pipeline.execution.parcels import Parcel, memory_file, receive
from pipeline.execution.recipes import Recipe
from pipeline.execution.units import Lost, Row, SampleUnit, Unit
from pipeline.stopping import noting_interrupts
from pipeline.terminal import remark

_START = """import json, sys
sys.path[:] = json.loads(sys.argv[1])
from pipeline.execution.local_worker import serve
serve(*map(int, sys.argv[2:]))"""
_THREADS = "OMP_NUM_THREADS"
_PATIENCE = 5.0
"""Seconds in which a process that has closed its socket ends."""
_LAST_WORDS = 4000
"""Bytes."""


class _Process:
    """One process, and the driver's end of its socket."""

    def __init__(self, recipe: Recipe, place: str) -> None:
        self.is_waiting = False
        self.fault = ""
        """What went wrong, in its own words."""
        with ExitStack() as failing:
            self.errors: IO[bytes] = failing.enter_context(os.fdopen(memory_file(), "w+b"))
            self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failing.callback(self.socket.close)
            words = [json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())]
            threads = {} if place else {_THREADS: str(max(1, usable_cores() // recipe.sharing))}
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _START, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self.errors,
                    pass_fds=(theirs.fileno(),),
                    env={**threads, **os.environ, "CUDA_VISIBLE_DEVICES": place},
                    process_group=0,  # Ctrl-C is for the driver, which ends its workers
                )
            failing.callback(self.process.kill)
            Parcel(recipe).send(self.socket)
            failing.pop_all()  # from now on, end() closes them

    def say(self, unit: Unit | None) -> None:
        """Send a unit, or that there is none now."""
        with suppress(OSError):  # it is gone, which is noticed when it is heard
            Parcel(unit).send(self.socket)

    def end(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def why(self) -> str:
        """Why it is gone, for people."""
        if self.fault:
            return self.fault
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE)
        code = self.process.returncode
        self.errors.seek(0)
        lines = self.errors.read()[-_LAST_WORDS:].decode(errors="replace").strip().splitlines()
        fatal = [line for line in lines if line.startswith("Fatal")] or lines[-1:]
        words = f": {fatal[0][:200]}" if fatal else ""
        if code is None:
            return f"a worker closed its connection{words}"
        if code >= 0:
            return f"a worker ended (exit code {code}){words}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        perhaps = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
        return f"a worker was ended by {name}{perhaps}{words}"


class LocalExecutor:
    """Has units done by processes of this machine, which are started where there is something to do for them.

    Args:
        recipe: from which they make their workers.
        places: ``CUDA_VISIBLE_DEVICES`` of each.

    Raises:
        ConfigError: this system does not have what is needed.
    """

    def __init__(self, recipe: Recipe, places: Sequence[str]) -> None:
        if not sys.platform.startswith("linux"):
            raise ConfigError("execution=local: needs Linux", "do the work in this process: execution=inline")
        self._recipe = recipe.shared_by(len(places))
        self._places = places
        self._processes: dict[int, _Process] = {}
        self._said: set[str] = set()

    def run(self, units: Iterable[Unit]) -> Generator[Row | Lost, None, None]:
        """As :class:`pipeline.execution.units.Executor`."""
        dispatch = Dispatch(units, len(self._places))
        with ExitStack() as held:
            selector = held.enter_context(selectors.DefaultSelector())
            held.callback(self._end_all)
            interrupts = held.enter_context(noting_interrupts())
            if interrupts.woken is not None:
                selector.register(interrupts.woken, selectors.EVENT_READ)
            while dispatch.has_work:
                if dispatch.is_stuck:
                    raise dispatch.ending()
                self._start_wanted(dispatch, selector)
                self._give_to_waiting(dispatch)
                for key, _ in selector.select():
                    if key.data is None:
                        if interrupts.first() and not dispatch.is_stopping:
                            dispatch.stop()
                            remark(_stopping(dispatch, len(self._places)))
                    else:
                        yield from self._hear(key.data, dispatch, selector)
            if dispatch.is_stopping:
                raise KeyboardInterrupt

    def _start_wanted(self, dispatch: Dispatch, selector: selectors.BaseSelector) -> None:
        for number, place in enumerate(self._places):
            if number not in self._processes and dispatch.is_wanted(number):
                try:
                    process = _Process(self._recipe, place)
                except (OSError, ConfigError) as error:  # no process or file is to be had
                    reason = error.problem if isinstance(error, ConfigError) else error.strerror or str(error)
                    self._refused(
                        number,
                        ConfigError(f"a worker cannot be started: {reason}", "start fewer: execution.workers=1"),
                        dispatch,
                    )
                    continue
                self._processes[number] = process
                selector.register(process.socket, selectors.EVENT_READ, number)
                self._tell(number, "loading")

    def _give_to_waiting(self, dispatch: Dispatch) -> None:
        for number, process in self._processes.items():
            if process.is_waiting and (unit := dispatch.give(number)) is not None:
                process.is_waiting = False
                process.say(unit)
                self._tell(number, _doing(unit), unit.video)

    def _hear(self, number: int, dispatch: Dispatch, selector: selectors.BaseSelector) -> Iterator[Row | Lost]:
        process = self._processes.get(number)
        if process is None:
            return
        try:
            (kind, value), _ = receive(process.socket)
        except ConfigError as error:
            kind, value = "refused", error
        except (EOFError, OSError):
            kind, value = "gone", None
        if kind in ("refused", "fault", "gone"):
            selector.unregister(process.socket)
            self._tell(number, "dead")
            if kind == "refused":
                self._refused(number, value, dispatch)
            else:
                yield from self._died(number, value, dispatch)
            self._processes.pop(number).end()
        elif kind == "row":
            if dispatch.received(number, value):
                yield value
        elif kind == "ended":
            yield from dispatch.ended(number)
        elif kind == "said":
            self._print(value)
        else:
            self._asked(number, dispatch, waits=kind == "waits")

    def _asked(self, number: int, dispatch: Dispatch, *, waits: bool) -> None:
        """A worker asks for a unit. One that waits is given it when there is one."""
        process = self._processes[number]
        if waits:
            process.is_waiting = True
            self._tell(number, "idle")
            return
        unit = dispatch.give(number)
        process.say(unit)
        if unit is not None:
            self._tell(number, _doing(unit), unit.video)

    def _died(self, number: int, fault: tuple[str, str] | None, dispatch: Dispatch) -> Iterator[Lost]:
        """A process is gone, or an error that no unit explains came out of its worker: ``fault`` and its traceback."""
        process = self._processes[number]
        if fault is not None:
            process.fault = fault[0]
            self._print(fault[1].rstrip("\n"))
        reason = process.why()
        yield from dispatch.died(number, reason)
        if not dispatch.is_out(number):
            remark(f"{self._name(number)}: {reason}; what it had in hand is tried by another one")
        elif not dispatch.is_stuck:
            remark(f"{self._name(number)} is given up, as it dies again and again; the others go on: {reason}")

    def _refused(self, number: int, error: PipelineError, dispatch: Dispatch) -> None:
        """A worker cannot work. The error of the last one ends the run and is printed there."""
        if dispatch.refused(number, error) and not dispatch.is_stuck:
            remark(f"{self._name(number)} cannot work, the others go on: {error}")

    def _name(self, number: int) -> str:
        place = self._places[number]
        return f"worker {number}" + (f" on GPU {place}" if place else "")

    def _print(self, text: str) -> None:
        """Print what a worker said, once for all of them."""
        if text not in self._said:
            self._said.add(text)
            remark(text)

    def _tell(self, number: int, state: str, video: str | None = None) -> None:
        pid = self._processes[number].process.pid
        worker_state(number, pid, self._places[number], state, video)

    def _end_all(self) -> None:
        for process in self._processes.values():
            process.end()
        self._processes.clear()


def _doing(unit: Unit) -> str:
    return "sampling" if isinstance(unit, SampleUnit) else "answering"


def _stopping(dispatch: Dispatch, workers: int) -> str:
    count = len({unit.video for number in range(workers) for unit in dispatch.hand(number)})
    return f"\ninterrupted: the {count} videos in hand are finished first; Ctrl-C again stops now"
