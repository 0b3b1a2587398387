"""What several processes that compute have in common, wherever they run: what they are given, and what is told of them.

They pull a video at a time and know nothing of each other, so that none waits for a slow one. The videos of one that
dies go to another. The driver alone writes run folders.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pipeline.errors import PipelineError
from pipeline.execution.dispatch import Dispatch
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

    def say(self, unit: Unit | None) -> None:
        """Send a unit, or that there is none now."""
        ...

    def why(self) -> str:
        """Why it is gone, for people. Called once it is."""
        ...

    def end(self) -> None:
        """End it at once, and free what the driver has of it."""
        ...


M = TypeVar("M", bound=Member)
Message = tuple[int, str, Any]
"""The number of a worker, and what it says: :class:`pipeline.execution.feeding.Line`; ``gone`` where it cannot."""
LAST_WORDS = ("refused", "fault", "gone")
"""Kinds of messages after which nothing comes."""


class Crew(ABC, Generic[M]):
    """An :class:`pipeline.execution.units.Executor` of several processes.

    How they are started and heard is left to its kinds.

    Attributes:
        members: the processes by number; there is one where there is something to do for it.
    """

    def __init__(self) -> None:
        self.members: dict[int, M] = {}
        self._said: set[str] = set()

    @property
    @abstractmethod
    def size(self) -> int:
        """The most processes; known once :meth:`listening` has begun."""

    @abstractmethod
    def listening(self, interrupts: Interrupts) -> AbstractContextManager[None]:
        """What is held while the work is done. All members have ended when it is left."""

    @abstractmethod
    def started(self, number: int) -> M:
        """Start a process.

        Raises:
            PipelineError: it cannot be started.
        """

    @abstractmethod
    def heard(self) -> Iterator[Message]:
        """Wait until a member says something or an interrupt comes, for as long as this kind waits."""

    def run(self, units: Iterable[Unit | None]) -> Generator[Row | Lost, None, None]:
        """As :class:`pipeline.execution.units.Executor`.

        Args:
            units: as :class:`Dispatch` takes them. Those that are not ready become so when a row is given.
        """
        with ExitStack() as held:
            interrupts = held.enter_context(noting_interrupts())
            held.enter_context(self.listening(interrupts))
            held.callback(self._end_all)
            dispatch = Dispatch(units, self.size)
            while dispatch.has_work:
                if dispatch.is_stuck:
                    raise dispatch.ending()
                self._start_wanted(dispatch)
                self._give_to_waiting(dispatch)
                for message in self.heard():
                    yield from self._take(*message, dispatch)
                if interrupts.first() and not dispatch.is_stopping:
                    dispatch.stop()
                    remark(_stopping(dispatch, self.size))
            if dispatch.is_stopping:
                raise KeyboardInterrupt

    def told(self, number: int, state: str, video: str | None = None) -> None:
        """Record what a member is doing."""
        place = self.members[number].place
        worker_state(number, place.pid, place.gpu, state, video, place.host)

    def name(self, number: int) -> str:
        """A member, for people."""
        place = self.members[number].place
        host = f" on {place.host}" if place.host not in ("", Place.host) else ""
        return f"worker {number}{host}" + (f" on GPU {place.gpu}" if place.gpu else "")

    def _start_wanted(self, dispatch: Dispatch) -> None:
        for number in range(self.size):
            if number not in self.members and dispatch.is_wanted(number):
                try:
                    self.members[number] = self.started(number)
                except PipelineError as error:
                    if dispatch.refused(number, error) and not dispatch.is_stuck:
                        remark(f"worker {number} cannot be started, the others go on: {error}")
                    continue
                self.told(number, "loading")

    def _give_to_waiting(self, dispatch: Dispatch) -> None:
        for number, member in self.members.items():
            if member.is_waiting and (unit := dispatch.give(number)) is not None:
                member.is_waiting = False
                member.say(unit)
                self.told(number, _doing(unit), unit.video)

    def _take(self, number: int, kind: str, value: Any, dispatch: Dispatch) -> Iterator[Row | Lost]:
        if kind == "row":
            if dispatch.received(number, value):
                yield value
        elif kind == "asks":
            unit = dispatch.give(number)
            self.members[number].say(unit)
            if unit is not None:
                self.told(number, _doing(unit), unit.video)
        elif kind == "waits":
            self.members[number].is_waiting = True
            self.told(number, "idle")
        elif kind == "ended":
            yield from dispatch.ended(number)
        elif kind == "said":
            self._print(value)
        elif kind == "refused":
            self.told(number, "dead")
            # The error of the last one ends the run and is printed there.
            if dispatch.refused(number, value) and not dispatch.is_stuck:
                remark(f"{self.name(number)} cannot work, the others go on: {value}")
            self.members.pop(number).end()
        else:
            if kind == "fault":
                reason, told = value
                self._print(told.rstrip("\n"))
            else:
                reason = self.members[number].why()
            self.told(number, "dead")
            yield from dispatch.died(number, reason)
            self._print_loss(number, reason, dispatch)
            self.members.pop(number).end()

    def _print_loss(self, number: int, reason: str, dispatch: Dispatch) -> None:
        if not dispatch.is_out(number):
            remark(f"{self.name(number)}: {reason}; what it had in hand is tried by another one")
        elif not dispatch.is_stuck:
            remark(f"{self.name(number)} is given up, as it dies again and again; the others go on: {reason}")

    def _print(self, text: str) -> None:
        """Print what a worker said, once for all of them."""
        if text not in self._said:
            self._said.add(text)
            remark(text)

    def _end_all(self) -> None:
        for member in self.members.values():
            member.end()
        self.members.clear()


def _doing(unit: Unit) -> str:
    return "sampling" if isinstance(unit, SampleUnit) else "answering"


def _stopping(dispatch: Dispatch, workers: int) -> str:
    count = len({unit.video for number in range(workers) for unit in dispatch.hand(number)})
    return f"\ninterrupted: the {count} videos in hand are finished first; Ctrl-C again stops now"
