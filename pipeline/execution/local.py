"""Several processes of this machine that compute, each with a model and GPUs of its own. One that dies is replaced."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

from pipeline.errors import ConfigError
from pipeline.execution.crew import LAST_KINDS, Crew, Message, Place
from pipeline.execution.decoding import usable_cores
from pipeline.execution.dispatch import Dispatch, Stages
from pipeline.execution.parcels import Parcel, memory_file, receive
from pipeline.execution.recipes import Recipe
from pipeline.execution.units import AnswerUnit, Lost, Row, SampleUnit, Unit
from pipeline.stopping import Interrupts

_START = """import json, sys
sys.path[:] = json.loads(sys.argv[1])
from pipeline.execution.local_worker import serve
serve(*map(int, sys.argv[2:]))"""
_THREADS = "OMP_NUM_THREADS"
_PATIENCE = 5.0
"""Seconds in which a process that has closed its socket ends."""
_LAST_BYTES = 4000
"""Of what a process printed."""


class _Process:
    """One process, and the driver's end of its socket."""

    def __init__(self, recipe: Recipe, place: str) -> None:
        self.is_waiting = False
        self._verdict = ""
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
        self.place = Place(self.process.pid, place)

    def send(self, unit: Unit | None) -> None:
        with suppress(OSError):  # it is gone, which the next receive notices
            Parcel(unit).send(self.socket)

    def kill(self, reason: str) -> None:
        self._verdict = reason
        self.process.kill()

    def end(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def why(self) -> str:
        if self._verdict:
            return self._verdict
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE)
        code = self.process.returncode
        self.errors.seek(0)
        lines = self.errors.read()[-_LAST_BYTES:].decode(errors="replace").strip().splitlines()
        fatal = [line for line in lines if line.startswith("Fatal")] or lines[-1:]
        words = f": {fatal[0][:200]}" if fatal else ""
        if code is None:
            return f"a worker closed its connection{words}"
        if code >= 0:
            return f"a worker ended (exit code {code}){words}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        perhaps = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
        return f"a worker was ended by {name}{perhaps}{words}"


class LocalExecutor(Crew[_Process]):
    """Has units done by processes of this machine, which are started where there is something to do for them.

    Args:
        recipe: from which they make their workers.
        places: ``CUDA_VISIBLE_DEVICES`` of each; also an attribute.
        deadline: as :class:`Crew` has it.

    Raises:
        ConfigError: this system does not have what is needed.
    """

    def __init__(self, recipe: Recipe, places: Sequence[str], deadline: float | None = None) -> None:
        if not sys.platform.startswith("linux"):
            raise ConfigError("execution=local: needs Linux", "do the work in this process: execution=inline")
        super().__init__(deadline)
        self._recipe = recipe.shared_by(len(places))
        self.places = places
        self._selector: selectors.BaseSelector
        """There is one while the work is done."""

    @property
    def size(self) -> int:
        """One for each place."""
        return len(self.places)

    @property
    def side_by_side(self) -> int:
        """How many of them share neither GPUs nor the processor with another one."""
        return len(set(self.places))

    @contextmanager
    def connected(self, interrupts: Interrupts) -> Iterator[None]:
        """Waits for messages of all processes and for the first Ctrl-C together."""
        with selectors.DefaultSelector() as self._selector:
            if interrupts.woken is not None:
                self._selector.register(interrupts.woken, selectors.EVENT_READ)
            yield

    def recipe(self, number: int) -> Recipe:
        """From which a process makes its worker."""
        return self._recipe

    def started(self, number: int) -> _Process:
        """Start a process.

        Raises:
            ConfigError: the system allows no further process or file.
        """
        try:
            process = _Process(self.recipe(number), self.places[number])
        except (OSError, ConfigError) as error:
            reason = error.problem if isinstance(error, ConfigError) else error.strerror or str(error)
            raise ConfigError(f"a worker cannot be started: {reason}", "start fewer: execution.workers=1") from error
        self._selector.register(process.socket, selectors.EVENT_READ, number)
        return process

    def messages(self) -> Iterator[Message]:
        """As :meth:`Crew.messages`."""
        for key, _ in self._selector.select(self.wakes_after):
            if key.data is not None:
                kind, value = _message(self.members[key.data].socket)
                if kind in LAST_KINDS:
                    self._selector.unregister(key.fileobj)
                yield key.data, kind, value


class OverlappedStages(LocalExecutor):
    """Processes of both stages at the same time: each place has one of either.

    Args:
        first: from which workers of stage 1 are made.
        second: from which workers of stage 2 are made.
        places: ``CUDA_VISIBLE_DEVICES`` of each of them.
        deadline: as :class:`Crew` has it.
    """

    def __init__(self, first: Recipe, second: Recipe, places: Sequence[str], deadline: float | None = None) -> None:
        super().__init__(first, [*places, *places], deadline)
        self._each = len(places)
        self._second = second.shared_by(2 * self._each)

    def run_both(
        self, first: Iterable[SampleUnit], second: Iterable[AnswerUnit | None]
    ) -> Generator[Row | Lost, None, None]:
        """As :class:`pipeline.execution.units.OverlappingExecutor`."""
        each = self._each
        yield from self.done(lambda: Stages([Dispatch(first, each), Dispatch(second, each)], each))

    def recipe(self, number: int) -> Recipe:
        """As :class:`LocalExecutor`."""
        return self._recipe if number < self._each else self._second


def _message(over: socket.socket) -> tuple[str, Any]:
    try:
        (kind, value), _ = receive(over)
    except ConfigError as error:
        return "refused", error
    except (EOFError, OSError):
        return "gone", None
    return kind, value
