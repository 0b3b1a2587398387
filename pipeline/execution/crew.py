"""What executors of several processes have in common, wherever these run: they give units, and take rows and failures.

They pull a video at a time and know nothing of each other, so that none waits for a slow one. The videos of one that
dies go to another. The driver alone writes run folders.
"""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pipeline.errors import PipelineError
from pipeline.execution.dispatch import Dispatch, Stages
from pipeline.execution.events import worker_state
from pipeline.execution.units import Lost, Row, SampleUnit, Unit
from pipeline.stopping import Interrupts, noting_interrupts
from pipeline.terminal import remark


@dataclass(frozen=True)
class Place:
    """Where a process computes."""

    pid: int | None = None
    """None while it waits for a place."""
    gpu: str = ""
    """As its ``CUDA_VISIBLE_DEVICES`` names them; empty without one."""
    host: str = socket.gethostname()


class Member(Protocol):
    """A process that computes, as its driver sees it."""

    is_waiting: bool
    """Whether it has asked for a unit and there was none."""

    @property
    def place(self) -> Place:
        """Where it is."""
        ...

    def send(self, unit: Unit | None) -> None:
        """Send a unit, or that there is none now."""
        ...

    def why(self) -> str:
        """Why it is gone, for people. Called once it is."""
        ...

    def kill(self, reason: str) -> None:
        """End it at once; its last message then is that it is gone, for this reason."""
        ...

    def end(self) -> None:
        """End it at once, and free what the driver has of it."""
        ...


M = TypeVar("M", bound=Member)
Message = tuple[int, str, Any]
"""The number of a worker, and the kind and value of :class:`pipeline.execution.feeding.Line`, or ``gone``."""
_WAKES_AFTER = 1.0
LAST_KINDS = ("refused", "fault", "gone")
"""Kinds of messages that are a member's last."""


class Crew(ABC, Generic[M]):
    """An :class:`pipeline.execution.units.Executor` of several processes.

    A subclass starts them and receives their messages.

    Args:
        deadline: seconds in which a process with a unit in hand gives a row, or is replaced; None: there is no limit.

    Attributes:
        members: the processes by number; there is one where there is something to do for it.
        wakes_after: seconds after which :meth:`messages` stops waiting, so that hung members are noticed.
    """

    def __init__(self, deadline: float | None) -> None:
        self.members: dict[int, M] = {}
        self.wakes_after = None if deadline is None else min(deadline, _WAKES_AFTER)
        self._deadline = deadline
        self._since: dict[int, float] = {}
        """When each member that has units in hand gave its last row, or took them."""
        self._said: set[str] = set()

    @property
    @abstractmethod
    def size(self) -> int:
        """The most processes; known once :meth:`connected` has begun."""

    @abstractmethod
    def connected(self, interrupts: Interrupts) -> AbstractContextManager[None]:
        """Hold what the work needs. All members have ended when the context is left."""

    @abstractmethod
    def started(self, number: int) -> M:
        """Start a process.

        Raises:
            PipelineError: it cannot be started.
        """

    @abstractmethod
    def messages(self) -> Iterator[Message]:
        """Wait for messages of members, or for an interrupt; a subclass may stop waiting after a while."""

    def run(self, units: Iterable[Unit | None]) -> Generator[Row | Lost, None, None]:
        """As :class:`pipeline.execution.units.Executor`.

        Args:
            units: as :class:`Dispatch` takes them. Those that are not ready become so when a row is given.
        """
        yield from self.done(lambda: Stages([Dispatch(units, self.size)], self.size))

    def done(self, planned: Callable[[], Stages]) -> Generator[Row | Lost, None, None]:
        """The rows of the units of all stages.

        Args:
            planned: makes the stages, once the size is known.
        """
        with ExitStack() as held:
            interrupts = held.enter_context(noting_interrupts())
            held.enter_context(self.connected(interrupts))
            held.callback(self._end_all)
            stages = planned()
            stuck: PipelineError | None = None
            while stages.has_work:
                if stuck is None and (stuck := stages.stuck) is not None:
                    stages.stop()  # what another stage has in hand is finished
                    continue
                self._start_wanted(stages)
                self._give_to_waiting(stages)
                for number, kind, value in self.messages():
                    yield from self._take(number, kind, value, *stages.of(number))
                self._end_hung(stages)
                if interrupts.first() and not stages.is_stopping:
                    stages.stop()
                    remark(_stopping(stages, self.size))
            if stuck is not None:
                raise stuck

    def record(self, number: int, state: str, video: str | None = None) -> None:
        """Record what a member is doing."""
        place = self.members[number].place
        worker_state(number, place.pid, place.gpu, state, video, place.host)

    def name(self, number: int) -> str:
        """A member, for people."""
        place = self.members[number].place
        host = f" on {place.host}" if place.host not in ("", Place.host) else ""
        return f"worker {number}{host}" + (f" on GPU {place.gpu}" if place.gpu else "")

    def _start_wanted(self, stages: Stages) -> None:
        for number in range(self.size):
            dispatch, worker = stages.of(number)
            if number not in self.members and dispatch.is_wanted(worker):
                try:
                    self.members[number] = self.started(number)
                except PipelineError as error:
                    if dispatch.refused(worker, error) and not dispatch.is_stuck:
                        remark(f"worker {number} cannot be started, the others go on: {error}")
                    continue
                self.record(number, "loading")

    def _give_to_waiting(self, stages: Stages) -> None:
        for number, member in self.members.items():
            dispatch, worker = stages.of(number)
            if member.is_waiting and (unit := dispatch.give(worker)) is not None:
                member.is_waiting = False
                member.send(unit)
                self.record(number, _doing(unit), unit.video)

    def _take(self, number: int, kind: str, value: Any, dispatch: Dispatch, worker: int) -> Iterator[Row | Lost]:
        """Handle a message of a member.

        Args:
            number: its number.
            kind: of the message.
            value: of the message.
            dispatch: of its stage.
            worker: its number there.
        """
        if kind == "row":
            self._since.pop(number, None)
            if dispatch.received(worker, value):
                yield value
        elif kind == "asks":
            unit = dispatch.give(worker)
            self.members[number].send(unit)
            if unit is not None:
                self.record(number, _doing(unit), unit.video)
        elif kind == "waits":
            self.members[number].is_waiting = True
            self.record(number, "idle")
        elif kind == "ended":
            yield from dispatch.ended(worker)
        elif kind == "said":
            self._print(value)
        else:
            self.record(number, "dead")
            yield from self._gone(number, kind, value, dispatch, worker)
            self.members.pop(number).end()

    def _gone(self, number: int, kind: str, value: Any, dispatch: Dispatch, worker: int) -> Iterator[Lost]:
        """Handle the last message of a member; arguments as of :meth:`_take`."""
        if kind == "refused":
            # The error of the last one ends the run and is printed there.
            if dispatch.refused(worker, value) and not dispatch.is_stuck:
                remark(f"{self.name(number)} cannot work, the others go on: {value}")
            return
        if kind == "fault":
            reason, told = value
            self._print(told.rstrip("\n"))
        else:
            reason = self.members[number].why()
        yield from dispatch.died(worker, reason)
        if not dispatch.is_out(worker):
            remark(f"{self.name(number)}: {reason}; what it had in hand is tried by another one")
        elif not dispatch.is_stuck:
            remark(f"{self.name(number)} is given up after repeated deaths; the others go on: {reason}")

    def _end_hung(self, stages: Stages) -> None:
        """End the members that have had units in hand for too long without a row."""
        if self._deadline is None:
            return
        now = time.monotonic()
        for number, member in self.members.items():
            dispatch, worker = stages.of(number)
            if not dispatch.hand(worker):
                self._since.pop(number, None)
            elif now - self._since.setdefault(number, now) > self._deadline:
                del self._since[number]
                member.kill(f"a worker gave no result within execution.worker_deadline={self._deadline:g} s")

    def _print(self, text: str) -> None:
        """Print a line of a worker, once for all of them."""
        if text not in self._said:
            self._said.add(text)
            remark(text)

    def _end_all(self) -> None:
        for number, member in self.members.items():
            self.record(number, "ended")
            member.end()
        self.members.clear()


def _doing(unit: Unit) -> str:
    return "sampling" if isinstance(unit, SampleUnit) else "answering"


def _stopping(stages: Stages, size: int) -> str:
    videos = set()
    for number in range(size):
        dispatch, worker = stages.of(number)
        videos |= {unit.video for unit in dispatch.hand(worker)}
    return f"\ninterrupted: the {len(videos)} videos in hand are finished first; Ctrl-C again stops now"
