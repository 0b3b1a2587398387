"""What is to be done, who does it, and what comes of it: the seam between a run and the processes that compute.

*Plan*: the driver (:mod:`pipeline.orchestrator`) finds what no cache knows and makes units of it: all missing questions
of one video for one stage. *Map*: an :class:`Executor` gives units to workers and yields what they give, in any order.
*Sink*: the driver alone appends rows to the run folder.

A :class:`Worker` is a function from units to rows. It draws units as its model needs them, a little ahead, so that
models that work on several videos at a time are kept busy; a unit is in its hand from when it is drawn until all of its
questions have a row. It may write caches by content and never a run folder. A :class:`Recipe`
(:mod:`pipeline.execution.recipes`) makes a worker in any process; in the process of the driver, the driver makes it.

An executor of several processes leaves to a :class:`pipeline.execution.dispatch.Dispatch` which unit goes where:

* :meth:`~pipeline.execution.dispatch.Dispatch.give` when a worker asks for one. A worker with units in its hand is told
  at once if there is none for it now: then the stream ends, it finishes what it has, and begins a new stream. A worker
  that has none waits.
* :meth:`~pipeline.execution.dispatch.Dispatch.received` with each row.
* :meth:`~pipeline.execution.dispatch.Dispatch.died` when a worker's process is gone: its units go to others. Each is
  then done alone, so that it is known which one was to blame; one of which a second worker dies is :class:`Lost`.
* :meth:`~pipeline.execution.dispatch.Dispatch.refused` when a worker cannot do its work at all, as where a checkpoint
  cannot be loaded. The others go on; if no worker is left, :meth:`~pipeline.execution.dispatch.Dispatch.ending` is the
  first worker's own error.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.domain import Question
from pipeline.errors import with_remedy
from pipeline.stopping import noting_interrupts, telling
from pipeline.terminal import remark

Row = RelevanceRow | AnswerRow


@dataclass(frozen=True)
class SampleUnit:
    """Questions of one video that have no relevance yet."""

    video: str
    """Path."""
    questions: tuple[Question, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """The questions' ids."""
        return tuple(question.id for question in self.questions)

    def only(self, ids: Iterable[str]) -> SampleUnit:
        """The part of these questions."""
        kept = set(ids)
        return replace(self, questions=tuple(question for question in self.questions if question.id in kept))


@dataclass(frozen=True)
class AnswerUnit:
    """Selections from one video that have no answer yet, each with the key of its answer."""

    video: str
    """Path."""
    selections: tuple[tuple[str, SelectionRow], ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """The questions' ids."""
        return tuple(row.question.id for _, row in self.selections)

    def only(self, ids: Iterable[str]) -> AnswerUnit:
        """The part of these questions."""
        kept = set(ids)
        return replace(self, selections=tuple(each for each in self.selections if each[1].question.id in kept))


Unit = SampleUnit | AnswerUnit


@dataclass(frozen=True)
class Lost:
    """A unit, or what was left of it, of which two workers died."""

    unit: Unit
    reason: str

    @property
    def detail(self) -> str:
        """For the failures of its questions."""
        return with_remedy(
            f"{self.unit.video}: two processes ended while they worked on it: {self.reason}",
            "if the reason is gone, try it again: execution.retry=crashed",
        )


class Worker(Protocol):
    """Does the work of one stage, in any process."""

    def rows(self, units: Iterable[Unit | None]) -> Iterator[Row]:
        """A row for each question of the units, as soon as it is known. A failure of a question or a video is a row.

        The units are drawn a little ahead, and from another thread where the frames of the next ones are decoded while
        the model is busy.

        Args:
            units: None says that there is none yet: those in hand go on, and after a moment the next one is drawn.

        Raises:
            PipelineError: the work cannot be done here, whatever the unit: the model cannot be loaded, say.
        """
        ...

    def stop(self) -> None:
        """Begin no further question: those that are begun get their rows, and ``rows`` ends.

        Called in another thread or in a signal handler.
        """
        ...

    def close(self) -> None:
        """Free the model and its device memory."""
        ...


class Executor(Protocol):
    """Gives units to workers and survives the loss of a worker."""

    def run(self, units: Iterable[Unit]) -> Generator[Row | Lost, None, None]:
        """The rows of all units as they come, in any order. Closing it ends the work at once.

        Args:
            units: drawn as workers ask for them. The ids of questions differ.

        Raises:
            PipelineError: no worker can do the work.
            KeyboardInterrupt: the run was asked to stop; what was in hand has been finished and given.
        """
        ...


class OverlappingExecutor(Protocol):
    """Has workers of both stages at once."""

    def run_both(
        self, first: Iterable[SampleUnit], second: Iterable[AnswerUnit | None]
    ) -> Generator[Row | Lost, None, None]:
        """The rows of all units of both stages, as :meth:`Executor.run` gives them.

        Args:
            first: of stage 1.
            second: of stage 2; None where none is ready yet. They become ready when a row of stage 1 is given.
        """
        ...


class InlineExecutor:
    """Does the work in this process, with one worker.

    Args:
        worker: of the stage.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def run(self, units: Iterable[Unit]) -> Generator[Row | Lost, None, None]:
        """As :class:`Executor`. Outside of a command, an interrupt stops at once."""
        with noting_interrupts(self._worker.stop) as interrupts, telling(interrupts, _tell_stopping):
            yield from self._worker.rows(units)


def _tell_stopping() -> None:
    remark("\ninterrupted: what is in hand is finished first; Ctrl-C again stops now")
