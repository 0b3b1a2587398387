"""Which worker gets which unit, and what becomes of the units of a worker that died. Starts no process, knows no clock.

Used by executors that have several workers; :mod:`pipeline.execution.units` tells how.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.errors import PipelineError
from pipeline.execution.units import Lost, Row, Unit

ATTEMPTS = 2
"""Workers that may die of a unit."""
DEATHS_IN_A_ROW = 4
"""Deaths of a worker's processes without one row between them, after which it is given up: its GPU may have failed."""


@dataclass(eq=False)
class _Task:
    """A unit on its way."""

    unit: Unit
    left: set[str]
    """Ids of the questions without a row."""
    died: list[int] = field(default_factory=list)
    """Workers that died of it, or of what they had in hand with it."""


@dataclass(eq=False)
class _Worker:
    """One of the workers, whose process may have been replaced."""

    hand: list[_Task] = field(default_factory=list)
    deaths: int = 0
    """Since its last row."""
    is_out: bool = False


class Dispatch:
    """Gives each unit to one worker at a time.

    Args:
        units: drawn as they are needed; None where none is ready yet, and one is drawn again later.
        workers: how many there are; they are numbered from 0.
    """

    def __init__(self, units: Iterable[Unit | None], workers: int) -> None:
        self._units = iter(units)
        self._new: deque[_Task] = deque()
        self._suspect: deque[_Task] = deque()
        """Units that were in the hand of a worker that died."""
        self._workers = [_Worker() for _ in range(workers)]
        self._task_of: dict[str, _Task] = {}
        self._error: PipelineError | None = None
        self._reason = ""
        self.is_stopping = False

    def stop(self) -> None:
        """Give no more units: what is in hand is finished."""
        self.is_stopping = True

    @property
    def has_work(self) -> bool:
        """Whether a unit waits or is in hand."""
        if any(worker.hand for worker in self._workers):
            return True
        return not self.is_stopping and bool(self._suspect or self._ahead(1))

    @property
    def is_stuck(self) -> bool:
        """Whether there is work and no worker for it."""
        return all(worker.is_out for worker in self._workers) and self.has_work

    def hand(self, worker: int) -> tuple[Unit, ...]:
        """The units that a worker has in hand."""
        return tuple(task.unit for task in self._workers[worker].hand)

    def is_wanted(self, worker: int) -> bool:
        """Whether a process for this worker would find something to do."""
        this = self._workers[worker]
        if this.is_out or this.hand or self.is_stopping:
            return bool(this.hand)
        if any(self._may_try(worker, task) for task in self._suspect):
            return True
        waiting = sum(not other.hand and not other.is_out for other in self._workers[:worker])
        return self._ahead(waiting + 1) > waiting

    def give(self, worker: int) -> Unit | None:
        """The next unit for a worker; None if there is none for it now.

        A unit that may be to blame for a death is given alone. No worker gets a further one while others, that have
        fewer, could not have one each.
        """
        this = self._workers[worker]
        if self.is_stopping or this.is_out or any(task.died for task in this.hand):
            return None
        if not this.hand:
            for task in self._suspect:
                if self._may_try(worker, task):
                    self._suspect.remove(task)
                    return self._given(this, task)
        poorer = sum(len(other.hand) < len(this.hand) and not other.is_out for other in self._workers)
        if self._ahead(poorer + 1) <= poorer:
            return None
        return self._given(this, self._new.popleft())

    def received(self, worker: int, row: Row) -> bool:
        """Note a row. Returns whether it counts: not if its question has one already."""
        task = self._task_of.get(row.question.id)
        if task is None:
            return False
        this = self._workers[worker]
        this.deaths = 0
        del self._task_of[row.question.id]
        task.left.discard(row.question.id)
        if not task.left and task in this.hand:
            this.hand.remove(task)
        return True

    def ended(self, worker: int) -> Iterator[Lost]:
        """A worker's stream ended. Units that it gave no row for are lost: another worker would give none either."""
        this = self._workers[worker]
        for task in this.hand:
            yield self._lost(task, "a worker gave no result for it")
        this.hand.clear()

    def died(self, worker: int, reason: str) -> Iterator[Lost]:
        """A worker's process is gone: its units go to others, and those that two died of are lost.

        Args:
            worker: its number.
            reason: for people.
        """
        this = self._workers[worker]
        this.deaths += 1
        hand, this.hand = this.hand, []
        self._reason = reason
        if this.deaths >= DEATHS_IN_A_ROW:
            this.is_out = True
        for task in hand:
            task.died.append(worker)
            if len(task.died) >= ATTEMPTS and len(hand) == 1:
                yield self._lost(task, reason)
            else:
                self._suspect.append(task)

    def refused(self, worker: int, error: PipelineError) -> bool:
        """A worker cannot work, and no unit is to blame: its units go to others. Returns whether this error is new."""
        this = self._workers[worker]
        this.is_out = True
        hand, this.hand = this.hand, []
        self._new.extendleft(reversed(hand))
        is_new = self._error is None or str(self._error) != str(error)
        self._error = self._error or error
        return is_new

    def ending(self) -> PipelineError:
        """Why no worker can go on."""
        return self._error or PipelineError(
            f"no worker lives long enough to finish a video: {self._reason}",
            "do the work in this process, which shows the error: execution=inline; finished rows are kept",
        )

    def is_out(self, worker: int) -> bool:
        """Whether a worker was given up."""
        return self._workers[worker].is_out

    def _may_try(self, worker: int, task: _Task) -> bool:
        """A unit goes to a worker that did not die with it, where there is one."""
        others = [number for number, each in enumerate(self._workers) if not each.is_out and number not in task.died]
        return worker in others or not others

    def _given(self, this: _Worker, task: _Task) -> Unit:
        this.hand.append(task)
        unit = task.unit if len(task.left) == len(task.unit.ids) else task.unit.only(task.left)
        task.unit = unit
        return unit

    def _lost(self, task: _Task, reason: str) -> Lost:
        for each in task.left:
            del self._task_of[each]
        return Lost(task.unit.only(task.left), reason)

    def _ahead(self, count: int) -> int:
        """Draw until so many new units wait, if there are as many. Returns how many wait."""
        while len(self._new) < count and (unit := next(self._units, None)) is not None:
            task = _Task(unit, set(unit.ids))
            self._task_of |= dict.fromkeys(unit.ids, task)
            self._new.append(task)
        return len(self._new)


class Stages:
    """Several dispatches of the same crew: the first workers are those of the first one, and so on.

    Args:
        stages: of as many workers each.
        workers: of each.
    """

    def __init__(self, stages: Sequence[Dispatch], workers: int) -> None:
        self._stages = stages
        self._workers = workers

    def of(self, worker: int) -> tuple[Dispatch, int]:
        """The dispatch of a worker, and its number there."""
        return self._stages[worker // self._workers], worker % self._workers

    def stop(self) -> None:
        """As :class:`Dispatch`, of all."""
        for stage in self._stages:
            stage.stop()

    @property
    def is_stopping(self) -> bool:
        """Likewise."""
        return self._stages[0].is_stopping

    @property
    def has_work(self) -> bool:
        """Whether any of them has."""
        return any(stage.has_work for stage in self._stages)

    @property
    def stuck(self) -> PipelineError | None:
        """Why one of them cannot go on; None where all can."""
        return next((stage.ending() for stage in self._stages if stage.is_stuck), None)
