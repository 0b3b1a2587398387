"""``events.jsonl``: what happens to a command, one JSON object a line, for ``gens status`` and other programs.

Every line has ``event`` and ``time`` (UTC), and ``elapsed``: seconds since the command started, which no change of the
clock moves. ``start`` says what runs and where; ``stage`` begins a stage; ``progress`` holds all that a stage has
counted so far, so that the last one is enough, and what the decode workers are doing; ``worker`` says what a process
that computes is doing since when; ``end`` is how the command ended. Rows that come fast are counted together: progress
is written once a second at first, every 10 seconds in a long run, and once a minute where nothing happens, as a sign of
life.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.domain import Status
from pipeline.progress import track
from pipeline.secrecy import without_secrets

EVENTS_FILE = "events.jsonl"
BEAT = 60.0
"""Seconds after which a command that has nothing to say gives a sign of life."""
_FIRST_INTERVAL = 1.0
_LONGEST_INTERVAL = 10.0
_SHARE = 1 / 600
"""The interval between two progress events as a share of the time since the start."""


@dataclass
class StageCounts:
    """What one stage of the command has done so far."""

    stage: str
    total: int
    """Questions."""
    done: int = 0
    kept: int = 0
    """Of ``done``, rows that were in the run folder before."""
    cached: int = 0
    """Of ``done``, results from the cache."""
    failed: Counter[Status] = field(default_factory=Counter)
    """Of ``done``, by status."""

    def content(self) -> dict[str, Any]:
        """The fields of an event."""
        failed = {status.value: count for status, count in sorted(self.failed.items())}
        counts = {"done": self.done, "total": self.total, "kept": self.kept, "cached": self.cached}
        return {"stage": self.stage, **counts, "failed": failed}


class EventLog:
    """Appends events to a file. A line that cannot be written is lost; the run goes on.

    Args:
        path: the file. An earlier command's events stay in it.
        clock: seconds that only ever increase.
        now: seconds since 1970.
        decoders: what the decode workers are doing.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        decoders: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        self._path = path
        self._decoders = decoders
        self._clock = clock
        self._now = now
        self._began = self._last = clock()
        self._counts: dict[str, StageCounts] = {}  # by stage, of those that have begun and not ended
        self._is_cut = _ends_within_a_line(path)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._beat = threading.Thread(target=self._signs_of_life, name="events", daemon=True)
        self._beat.start()

    def write(self, event: str, **fields: Any) -> None:
        """Append one event, without secrets, and hand it to the system at once."""
        with self._lock:
            self._append(event, fields)

    def begin(self, counts: StageCounts) -> None:
        """Begin a stage; signs of life are about it until it ends. Two stages may overlap."""
        with self._lock:
            self._counts[counts.stage] = counts
            self._append("stage", {"stage": counts.stage, "total": counts.total})

    def counted(self, counts: StageCounts) -> None:
        """Note that ``counts`` have changed. They are written if the last event is old enough."""
        with self._lock:
            self._counts[counts.stage] = counts
            if self._clock() - self._last >= self._interval():
                self._append_progress()

    def ended(self, counts: StageCounts) -> None:
        """Write the last counts of a stage."""
        with self._lock:
            self._counts.pop(counts.stage, None)
            self._append("progress", counts.content())

    def close(self) -> None:
        """Stop giving signs of life."""
        self._closed.set()
        self._beat.join()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _interval(self) -> float:
        elapsed = self._clock() - self._began
        return min(_LONGEST_INTERVAL, max(_FIRST_INTERVAL, elapsed * _SHARE))

    def _signs_of_life(self) -> None:
        while not self._closed.wait(BEAT):
            with self._lock:
                if self._clock() - self._last >= BEAT:
                    self._append_progress()

    def _append_progress(self) -> None:
        """One event for each stage under way, so that none of two that overlap falls behind."""
        decoders = self._decoders()
        beside = {"decoders": decoders} if decoders else {}
        for content in [counts.content() for counts in self._counts.values()] or [{}]:
            self._append("progress", {**content, **beside})

    def _append(self, event: str, fields: Mapping[str, Any]) -> None:
        self._last = self._clock()
        moment = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
        content = {"event": event, "time": moment, "elapsed": round(self._last - self._began, 3), **fields}
        line = without_secrets(json.dumps(content, ensure_ascii=False)).encode("utf-8", "replace") + b"\n"
        try:
            # One call of the system each, so that two writers of one file would not mix their lines.
            with self._path.open("ab", buffering=0) as file:
                line = b"\n" + line if self._is_cut else line
                self._is_cut = file.write(line) < len(line)
        except OSError:
            self._is_cut = True


def _ends_within_a_line(path: Path) -> bool:
    """Whether the last line has no newline, as after a kill."""
    with suppress(OSError), path.open("rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    return False


_current: ContextVar[EventLog | None] = ContextVar("events", default=None)


@contextmanager
def recording(folder: Path) -> Iterator[EventLog]:
    """Within this context, stages write their events into ``folder``."""
    from pipeline.execution.decoding import decode_workers

    with EventLog(folder / EVENTS_FILE, decoders=decode_workers) as log:
        token = _current.set(log)
        try:
            yield log
        finally:
            _current.reset(token)


class Finished(Protocol):
    """Counts one finished question."""

    def __call__(self, status: Status, *, kept: bool = False) -> None:
        """``kept`` if its row was in the run folder before."""


def worker_state(worker: int, pid: int | None, gpu: str, state: str, video: str | None, host: str) -> None:
    """Write what a process that computes is doing, where a command's events are recorded.

    Args:
        worker: its number.
        pid: of the process; None while it waits for a place.
        gpu: as CUDA_VISIBLE_DEVICES of it names them; empty without one.
        state: ``loading``, ``idle``, ``sampling``, ``answering``, ``dead``, or ``ended`` with its stage.
        video: that it was given last.
        host: where it is. The times are the driver's all the same.
    """
    log = _current.get()
    if log is not None:
        since = round(time.time(), 3)
        log.write("worker", worker=worker, host=host, pid=pid, gpu=gpu, state=state, video=video, since=since)


@contextmanager
def following(stage: str, total: int, cache: RelevanceCache | AnswerCache) -> Iterator[Finished]:
    """Show the progress of a stage on the terminal, and write it into the events of the command.

    Args:
        stage: its name, such as ``sampling``.
        total: number of its questions.
        cache: where results of earlier runs come from.
    """
    counts, before, log = StageCounts(stage, total), cache.hits, _current.get()

    def finished(status: Status, *, kept: bool = False) -> None:
        counts.done += 1
        counts.kept += kept
        counts.cached = cache.hits - before
        if status is not Status.OK:
            counts.failed[status] += 1
        advance(1)
        if log is not None:
            log.counted(counts)

    if log is not None:
        log.begin(counts)
    try:
        with track(stage, total) as advance:
            yield finished
    finally:
        if log is not None:
            log.ended(counts)
