"""What a run folder says about its command: whether it runs, where, and how far it has come.

Read from outside, while another process may be writing: every file may be missing, of another version, or cut. Whether
a command that has not written its end still runs is known by its lock where the lock is seen, and by its signs of life
on a file system that shares no locks between machines.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, FiniteFloat, NonNegativeInt, TypeAdapter, ValidationError

from pipeline.artefacts.folder import (
    ANSWERS_FILE,
    QUESTIONS_FILE,
    RELEVANCE_FILE,
    RUN_FILE,
    SELECTIONS_FILE,
)
from pipeline.artefacts.journal import LOCK_FILE, is_held
from pipeline.commands.outcome import OUTCOME_FILE, JobStatus, Outcome, read_outcome
from pipeline.execution.events import BEAT, EVENTS_FILE
from pipeline.wellformed import loaded_object

SILENT_AFTER = 5 * BEAT
"""Seconds without a sign of life after which a command on another machine is doubted."""
_OF_A_RUN = frozenset(
    {RUN_FILE, OUTCOME_FILE, LOCK_FILE, EVENTS_FILE, QUESTIONS_FILE, RELEVANCE_FILE, SELECTIONS_FILE, ANSWERS_FILE}
)
_RATE_OVER = 600.0
"""Seconds before the last event over which the rate is taken."""
LAST_EVENTS = 1 << 16
"""Bytes of events that tell how far a run has come."""
ALL_EVENTS = 1 << 24


class Life(StrEnum):
    """Whether a command runs, or how it ended."""

    RUNNING = "running"
    SILENT = "silent"
    """It runs on another machine or has died there: it gives no sign of life."""
    KILLED = "killed"
    """Its process is gone and has written no end."""
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"
    """Nothing in the folder says it."""


@dataclass(frozen=True)
class WorkerState:
    """What one process that decodes or computes is doing."""

    pid: int | None = None
    """None while it waits for a place."""
    state: str = ""
    """``loading``, ``sampling``, ``answering``; ``starting``, ``reading``, ``waiting`` of a decode worker; ``idle``,
    ``dead``."""
    video: str | None = None
    """That it was given last."""
    since: FiniteFloat = 0.0
    """Seconds since 1970 by the clock of the command's machine."""
    worker: int | None = None
    """Its number; None of a decode worker."""
    gpu: str = ""
    """As CUDA_VISIBLE_DEVICES names it; empty without one."""
    host: str = ""


@dataclass(frozen=True)
class _Event(WorkerState):
    event: str = field(kw_only=True)
    time: AwareDatetime = field(kw_only=True)
    elapsed: FiniteFloat = field(kw_only=True)
    stage: str = ""
    total: NonNegativeInt = 0
    done: NonNegativeInt = 0
    kept: NonNegativeInt = 0
    cached: NonNegativeInt = 0
    failed: Mapping[str, NonNegativeInt] = field(default_factory=dict)
    decoders: tuple[WorkerState, ...] = ()


_EVENT: TypeAdapter[_Event] = TypeAdapter(_Event)


@dataclass(frozen=True)
class StageState:
    """How far one stage of the command has come."""

    stage: str
    total: int
    """Questions."""
    done: int = 0
    kept: int = 0
    """Of ``done``, rows that were there before."""
    cached: int = 0
    """Of ``done``, results from the cache."""
    failed: Mapping[str, int] = field(default_factory=dict)
    rate: float | None = None
    """Questions a second, lately; None where nothing was finished."""

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None where it is not known."""
        return (self.total - self.done) / self.rate if self.rate and self.total > self.done else None


@dataclass(frozen=True)
class RunState:
    """All that is known of one run folder."""

    folder: Path
    life: Life
    outcome: Outcome
    facts: Mapping[str, Any]
    """Of ``run.json``; empty if it cannot be read."""
    stages: Sequence[StageState]
    """Of its last command, in their order."""
    workers: Sequence[WorkerState]
    """Of its last command, as last said: those that compute by number, then those that decode."""
    elapsed: float | None
    """Seconds from the start of that command to its last event."""
    sign: float | None
    """When it last gave a sign of life, in seconds since 1970."""
    ahead: float
    """Seconds by which the clock of its machine is ahead of the file system's."""
    unreadable: int
    """Lines of ``events.jsonl`` that cannot be read."""

    def content(self) -> dict[str, Any]:
        """As JSON values, for scripts."""
        stages = [{**asdict(stage), "seconds_left": stage.seconds_left} for stage in self.stages]
        workers = [asdict(worker) for worker in self.workers]
        outcome = self.outcome.content()
        facts = {**self.facts, "elapsed": self.elapsed, "last_sign": self.sign}
        return {
            "run": str(self.folder),
            "state": self.life,
            **facts,
            "stages": stages,
            "workers": workers,
            "outcome": outcome,
        }


def find_runs(folder: Path) -> Iterator[Path]:
    """The run folders at or below ``folder``. Nothing inside a run folder is looked at, and no link is followed."""
    folders: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in _OF_A_RUN:
                    yield folder
                    return
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
    except OSError:
        return  # removed meanwhile, or not ours to read
    for each in sorted(folders):
        yield from find_runs(each)


def read_state(folder: Path, now: float, most: int = ALL_EVENTS) -> RunState:
    """Read the state of a run folder.

    Args:
        folder: of the run.
        now: seconds since 1970.
        most: bytes of events to read, from the end.
    """
    facts = _facts(folder / RUN_FILE)
    events, unreadable = _events(folder / EVENTS_FILE, most)
    told = events[-1].time.timestamp() if events else None
    written = _modified(folder / EVENTS_FILE)
    # By the file system's clock, since that of the run's machine may differ.
    sign = told if written is None else written
    outcome = read_outcome(folder)
    return RunState(
        folder,
        _life(folder, outcome, facts.get("host"), None if sign is None else now - sign),
        outcome,
        facts,
        _stages(events),
        _workers(events),
        events[-1].elapsed if events else None,
        sign,
        told - written if told is not None and written is not None else 0.0,
        unreadable,
    )


def _life(folder: Path, outcome: Outcome, host: object, silence: float | None) -> Life:
    if outcome.status is JobStatus.NOT_STARTED:
        return Life.RUNNING if is_held(folder) else Life.UNKNOWN
    if outcome.status is not JobStatus.RUNNING:
        return Life(outcome.status.value)
    is_here = host in (None, socket.gethostname())
    is_silent = silence is None or silence > SILENT_AFTER
    if is_held(folder):
        # The lock of a machine that has died may be held for ever.
        return Life.SILENT if is_silent and not is_here else Life.RUNNING
    if is_here:
        return Life.KILLED
    return Life.SILENT if is_silent else Life.RUNNING


def _facts(path: Path) -> Mapping[str, Any]:
    try:
        return loaded_object(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _events(path: Path, most: int) -> tuple[list[_Event], int]:
    """The events of the last command among the last ``most`` bytes, and how many lines cannot be read."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - most)
            file.seek(start)
            lines = file.read(most).split(b"\n")
    except OSError:
        return [], 0
    found: list[_Event] = []
    unreadable = 0
    # The first line may be cut by the limit, and the last is not finished, or empty.
    for line in lines[1 if start else 0 : -1]:
        try:
            event = _EVENT.validate_json(line)
        except ValidationError:
            unreadable += bool(line.strip())
            continue
        if event.event == "start":
            found = []
        found.append(event)
    return found, unreadable


def _stages(events: Sequence[_Event]) -> tuple[StageState, ...]:
    """In the order in which they began; those of two that overlap are mixed."""
    stages: list[list[_Event]] = []
    latest: dict[str, list[_Event]] = {}
    for event in events:
        if not event.stage:
            continue
        if event.event == "stage" or event.stage not in latest:
            latest[event.stage] = []
            stages.append(latest[event.stage])
        latest[event.stage].append(event)
    return tuple(_stage(same) for same in stages)


def _workers(events: Sequence[_Event]) -> tuple[WorkerState, ...]:
    of_number = {event.worker: event for event in events if event.event == "worker" and event.worker is not None}
    computing = (of_number[number] for number in sorted(of_number))
    told = [
        WorkerState(each.pid, each.state, each.video, each.since, each.worker, each.gpu, each.host)
        for each in computing
        if each.state != "ended"
    ]
    decoding = next((event.decoders for event in reversed(events) if event.event == "progress"), ())
    return (*told, *decoding)


def _stage(events: Sequence[_Event]) -> StageState:
    last = events[-1]
    lately = [event for event in events if event.elapsed >= last.elapsed - _RATE_OVER]
    rate = _rate(lately) or _rate(events)
    return StageState(last.stage, last.total, last.done, last.kept, last.cached, last.failed, rate)


def _rate(events: Sequence[_Event]) -> float | None:
    seconds = events[-1].elapsed - events[0].elapsed
    done = events[-1].done - events[0].done
    return done / seconds if seconds > 0 and done > 0 else None


def moment(seconds: float) -> str:
    """``2026-11-26 08:17:51`` of this machine's own zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
