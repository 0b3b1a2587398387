"""Questions of many clients, answered by one session whose models stay loaded.

One thread computes. Questions about one video that come within a short time are answered together, in one pass over its
frames, as are those that come while others are computed. Videos take turns: many questions about one do not keep those
about another waiting for more than a round. The queue is bounded. A question that nobody waits for any more leaves it,
and a round of which nobody waits for any question ends at its next step.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pipeline.artefacts.folder import ANSWERS_FILE, read_questions
from pipeline.artefacts.journal import read_rows
from pipeline.artefacts.rows import AnswerRow
from pipeline.domain import Question, Status
from pipeline.errors import CheckpointError, ConfigError, InputError, MissingExtraError, PipelineError, RequestError
from pipeline.ledger import spent
from pipeline.progress import Step, steps_told
from pipeline.session import Result, Selected, Session

_LOG = logging.getLogger(__name__)
_MOST = 100_000
_LONGEST_GATHERING = 60.0
_OF_ROUNDS = 20
"""Rounds over whose time a client that has to come again is told to wait."""


@dataclass(frozen=True)
class EngineSettings:
    """How many questions wait and are answered together."""

    most_waiting: int
    """Questions that may wait; more are refused until some are answered."""
    gather_seconds: float
    """Time for which the first question about a video waits for others about it."""
    questions_at_once: int
    """Questions about one video in a round."""
    videos_at_once: int
    """Videos in a round: the next is decoded while a model reads the one before."""

    def __post_init__(self) -> None:
        for key in ("most_waiting", "questions_at_once", "videos_at_once"):
            if not 1 <= getattr(self, key) <= _MOST:
                raise ConfigError(
                    f"engine.{key}={getattr(self, key)}: at least 1, and at most {_MOST}", f"set engine.{key}=32"
                )
        if not 0 <= self.gather_seconds <= _LONGEST_GATHERING:
            raise ConfigError(
                f"engine.gather_seconds={self.gather_seconds}: 0 to {_LONGEST_GATHERING:g}",
                "set engine.gather_seconds=0.1",
            )


class Stage(StrEnum):
    """How far a question is."""

    QUEUED = "queued"
    DECODING = "decoding"
    SCORING = "scoring"
    GENERATING = "generating"
    DONE = "done"


@dataclass(frozen=True)
class Progress:
    """How far a question is."""

    stage: Stage
    done: int = 0
    """Frames that are decoded, or windows or frames that are scored, of ``total``; while it is queued, the questions
    before it. Frames are decoded while windows before them are scored."""
    total: int = 0
    what: str = ""
    """What is counted: ``windows``, ``frames``, or ``questions`` before it."""


@dataclass(frozen=True)
class Ask:
    """What a client wants to know."""

    question: Question
    only_select: bool = False
    """Stage 1 alone."""


@dataclass(frozen=True)
class Reply:
    """The outcome of a question."""

    selected: Selected
    result: Result | None
    """None where only frames were asked for."""
    waited: float
    """Seconds from when it came to when its round began."""
    seconds: float
    """Of its round."""
    together: int
    """Questions in its round."""

    @property
    def status(self) -> Status:
        """The status of the answer, or of the selection where only frames were asked for."""
        return self.selected.status if self.result is None else self.result.status

    @property
    def detail(self) -> str:
        """For a failure, what happened and what to do."""
        return self.selected.detail if self.result is None else self.result.detail


class QueueFullError(RequestError):
    """So many questions wait that no further one is taken."""

    def __init__(self, problem: str, remedy: str, retry_after: int) -> None:
        super().__init__(problem, remedy, 429)
        self.retry_after = retry_after
        """Seconds."""

    def __reduce__(self) -> tuple[type[QueueFullError], tuple[str, str, int]]:
        """For another process."""
        return type(self), (self.problem, self.remedy, self.retry_after)


class StoppingError(RequestError):
    """The server ends, and takes no questions any more."""

    def __init__(self) -> None:
        super().__init__("the server is stopping", "ask again when it runs", 503)


class Ticket:
    """One question in the engine's hands.

    Attributes:
        ask: what is wanted.
        future: gets the reply, or the :class:`pipeline.errors.PipelineError` for which there is none. It is cancelled
            when the question is withdrawn.
    """

    def __init__(self, ask: Ask, told: Callable[[Progress], None]) -> None:
        self.ask = ask
        self.future: Future[Reply] = Future()
        self.arrived = time.monotonic()
        self._told = told
        self._last: dict[tuple[Stage, str], Progress] = {}

    @property
    def is_withdrawn(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.cancelled()

    def tell(self, progress: Progress) -> None:
        """Tell whoever waits how far it is, if that is news."""
        counted = (progress.stage, progress.what)
        if self.is_withdrawn or progress == self._last.get(counted):
            return
        self._last[counted] = progress
        try:
            self._told(progress)
        except Exception:  # a listener's fault costs no question of the round
            _LOG.exception("The progress of a question could not be told")

    def is_taken_back(self) -> bool:
        """Whether it is withdrawn by now; from then on it cannot be."""
        return self.is_withdrawn or not self.future.set_running_or_notify_cancel()


class _AbandonedError(Exception):
    """Nobody waits for any question of the round."""


@dataclass
class Counts:
    """What the engine has done since it began."""

    asked: int = 0
    rejected: int = 0
    """Questions that came while the queue was full."""
    withdrawn: int = 0
    rounds: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    """Replies; ``error`` counts questions for which the session raised an exception."""
    frames: int = 0
    """Selected frames of all replies."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    waited: float = 0.0
    """Seconds from when questions came to when their rounds began, summed."""
    computed: float = 0.0
    """Seconds of all rounds."""


class Engine:
    """Answers questions with a session.

    Args:
        session: with the models. The engine alone uses it, and closes it.
        settings: how many questions wait and are answered together.
    """

    def __init__(self, session: Session, settings: EngineSettings) -> None:
        self.session = session
        self.settings = settings
        self.counts = Counts()
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, deque[Ticket]] = OrderedDict()  # by video; the first one's turn is next
        self._computing: list[Ticket] = []
        self._is_stopping = False
        self._rounds: deque[float] = deque(maxlen=_OF_ROUNDS)  # their seconds
        self._statuses = _known_statuses(session.folder)  # of the last answer, by question
        self._failure = ""
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    # --- for clients, in any thread ---

    def submit(self, ask: Ask, told: Callable[[Progress], None] = lambda _: None) -> Ticket:
        """Queue a question.

        Args:
            ask: what is wanted.
            told: called with its progress, in any thread; it must not block.

        Raises:
            QueueFullError: too many questions wait.
            StoppingError: the engine is being closed.
        """
        ticket = Ticket(ask, told)
        with self._changed:
            if self._is_stopping:
                raise StoppingError
            before = self.waiting
            if before >= self.settings.most_waiting:
                self.counts.rejected += 1
                raise QueueFullError(
                    f"{before} questions wait already, and no more are taken",
                    "ask again later, or let more wait: gens serve engine.most_waiting=...",
                    self._seconds_until_there_is_room(),
                )
            self.counts.asked += 1
            self._waiting.setdefault(ask.question.video, deque()).append(ticket)
            ticket.tell(Progress(Stage.QUEUED, before, before, "questions"))
            self._changed.notify_all()
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Say that nobody waits for a question any more. Does nothing for one that is answered."""
        with self._changed:
            if ticket.future.done() or not ticket.future.cancel():
                return
            self.counts.withdrawn += 1
            same_video = self._waiting.get(ticket.ask.question.video)
            if same_video is not None and ticket in same_video:
                same_video.remove(ticket)
                if not same_video:
                    del self._waiting[ticket.ask.question.video]
            self._changed.notify_all()

    async def follow(self, ask: Ask) -> AsyncGenerator[Progress | Reply, None]:
        """The progress of a question, and its reply in the end. Closed before its end, it withdraws the question.

        Raises:
            PipelineError: it is not taken, or cannot be answered, whatever its video: a model cannot be loaded, say.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[Progress | None] = asyncio.Queue()

        def tell(progress: Progress | None) -> None:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(told.put_nowait, progress)

        ticket = self.submit(ask, tell)
        ticket.future.add_done_callback(lambda _: tell(None))
        try:
            while (progress := await told.get()) is not None:
                yield progress
            yield ticket.future.result()
        finally:
            self.withdraw(ticket)

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        with self._changed:
            return sum(map(len, self._waiting.values()))

    @property
    def computing(self) -> int:
        """Questions in the round that is computed."""
        return len(self._computing)

    @property
    def is_stopping(self) -> bool:
        """Whether no questions are taken any more."""
        return self._is_stopping

    @property
    def failure(self) -> str:
        """Why the last round could not be computed whatever its questions; empty after one that could."""
        return self._failure

    def totals(self) -> Counter[Status]:
        """How the questions of the run folder ended, each counted once; without a folder, those since the start."""
        with self._changed:
            return Counter(self._statuses.values())

    def stop(self) -> None:
        """Refuse what waits and what comes, and let the round that is computed be the last. Waits for nothing."""
        with self._changed:
            self._is_stopping = True
            left = [ticket for tickets in self._waiting.values() for ticket in tickets]
            self._waiting.clear()
            for ticket in left:
                if not ticket.is_taken_back():
                    ticket.future.set_exception(StoppingError())
            self._changed.notify_all()

    def close(self) -> None:
        """As :meth:`stop`; then wait for the round that is computed, and free the models. May be called twice."""
        self.stop()
        self._thread.join()
        self.session.close()

    # --- the thread that computes ---

    def _work(self) -> None:
        while tickets := self._next_round():
            started = time.monotonic()
            self._answer(tickets)
            with self._changed:
                self._computing = []
                self.counts.rounds += 1
                self.counts.computed += time.monotonic() - started
                self._rounds.append(time.monotonic() - started)

    def _next_round(self) -> list[Ticket]:
        """The questions to be answered next; empty once the engine is being closed."""
        with self._changed:
            while not self._is_stopping:
                if self._waiting:
                    first = next(iter(self._waiting.values()))[0]
                    left = first.arrived + self.settings.gather_seconds - time.monotonic()
                    if left <= 0:
                        self._computing = self._taken()
                        return self._computing
                    self._changed.wait(left)
                else:
                    self._changed.wait()
            return []

    def _taken(self) -> list[Ticket]:
        """Questions about the videos whose turn it is. A video of which more are left comes after all others."""
        taken: list[Ticket] = []
        ids: dict[str, Question] = {}
        for video in list(self._waiting)[: self.settings.videos_at_once]:
            tickets = self._waiting.pop(video)
            later: deque[Ticket] = deque()
            count = 0
            for ticket in tickets:
                question = ticket.ask.question
                if ids.setdefault(question.id, question) == question and count < self.settings.questions_at_once:
                    taken.append(ticket)
                    count += 1
                else:
                    later.append(ticket)
            if later:
                self._waiting[video] = later
        return taken

    def _answer(self, tickets: Sequence[Ticket]) -> None:
        """Give each question its reply, or the error for which there is none."""
        started = time.monotonic()
        for ticket in tickets:
            ticket.tell(Progress(Stage.DECODING))
        try:
            replies = self._replies(tickets, started)
        except _AbandonedError:
            return
        except (CheckpointError, MissingExtraError) as error:
            self._fail(tickets, error)
            return
        except Exception as error:
            if len(tickets) > 1:  # one of them may be to blame
                for ticket in tickets:
                    self._answer([ticket])
            elif isinstance(error, PipelineError):
                self._fail(tickets, error)
            else:
                _LOG.exception("A question failed")
                problem = f"the question could not be computed ({type(error).__name__}: {error})"
                remedy = "this is a fault of the program; its log has the traceback"
                self._fail(tickets, RequestError(problem, remedy, 500))
            return
        self._failure = ""
        for ticket, reply in zip(tickets, replies, strict=True):
            if reply is not None:
                self._give(ticket, reply)

    def _replies(self, tickets: Sequence[Ticket], started: float) -> list[Reply | None]:
        """The reply of each question; None for one that was withdrawn before its second stage."""

        def told(step: Step) -> None:
            self._check_wanted(tickets)
            is_decoded = step.what == "decoded"
            stage, what = (Stage.DECODING, "frames") if is_decoded else (Stage.SCORING, step.what)
            for ticket in tickets:
                if step.done and ticket.ask.question.video == step.video:
                    ticket.tell(Progress(stage, step.done, step.total, what))

        with steps_told(told):
            self._check_wanted(tickets)
            selected = self.session.select_many([ticket.ask.question for ticket in tickets])
            self._check_wanted(tickets)
            wanted = [
                place for place, ticket in enumerate(tickets) if not ticket.ask.only_select and not ticket.is_withdrawn
            ]
            for place in wanted:
                tickets[place].tell(Progress(Stage.GENERATING))
            answered = self.session.answer_many([selected[place] for place in wanted])
        results = dict(zip(wanted, answered, strict=True))
        seconds = time.monotonic() - started
        return [
            Reply(selected[place], results.get(place), started - ticket.arrived, seconds, len(tickets))
            if ticket.ask.only_select or place in results
            else None
            for place, ticket in enumerate(tickets)
        ]

    def _check_wanted(self, tickets: Sequence[Ticket]) -> None:
        if all(ticket.is_withdrawn for ticket in tickets):
            raise _AbandonedError

    def _give(self, ticket: Ticket, reply: Reply) -> None:
        with self._changed:
            ticket.tell(Progress(Stage.DONE))
            if ticket.is_taken_back():
                return
            counts = self.counts
            counts.by_status[reply.status.value] += 1
            counts.waited += reply.waited
            counts.frames += len(reply.selected.row.selection.frames)
            if reply.result is not None:
                self._statuses[ticket.ask.question.id] = reply.status
                paid = spent(reply.result.row.answer)
                counts.prompt_tokens += paid.prompt_tokens
                counts.output_tokens += paid.output_tokens
            ticket.future.set_result(reply)

    def _fail(self, tickets: Sequence[Ticket], error: PipelineError) -> None:
        self._failure = "" if isinstance(error, InputError) else error.problem
        with self._changed:
            for ticket in tickets:
                if not ticket.is_taken_back():
                    self.counts.by_status["error"] += 1
                    ticket.future.set_exception(error)

    def _seconds_until_there_is_room(self) -> int:
        """The time of an average round; 1 before there was any."""
        return max(1, math.ceil(sum(self._rounds) / len(self._rounds))) if self._rounds else 1


def _known_statuses(folder: Path | None) -> dict[str, Status]:
    """How the questions ended that a run folder holds already."""
    if folder is None or not (folder / ANSWERS_FILE).is_file():
        return {}
    asked = {question.id: question for question in read_questions(folder)}
    return {row.question.id: row.answer.status for row in read_rows(AnswerRow, folder / ANSWERS_FILE, asked)}
