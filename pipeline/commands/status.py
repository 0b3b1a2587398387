"""``gens status [RUN]``: what is running, where, and how far it has come; from another terminal or machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipeline.commands.run_state import (
    LAST_EVENTS,
    Life,
    RunState,
    StageState,
    WorkerState,
    find_runs,
    moment,
    read_state,
)
from pipeline.config import nearest
from pipeline.errors import InputError, with_remedy
from pipeline.paths import local_path, shown
from pipeline.progress import clock_text
from pipeline.terminal import tell

ALIVE = (Life.RUNNING, Life.SILENT)
_CLOCKS_DIFFER = 60.0
"""Seconds by which two clocks may differ before it is said."""


def run(config: DictConfig) -> int:
    """Print the state of one run, or of all that are running."""
    now = time.time()
    place = local_path(config.paths.runs)
    if config.run is None:
        lives = {folder: read_state(folder, now, LAST_EVENTS).life for folder in find_runs(place)}
        folders = [folder for folder, life in lives.items() if life in ALIVE]
    else:
        folders = _named(config.run, place)
    states = [read_state(folder, now) for folder in folders]
    if config.json:
        tell(json.dumps([state.content() for state in states], indent=2))
        return 0
    for state in states:
        for line in _lines(state, now):
            tell(line)
    if config.run is None:
        killed = sum(life is Life.KILLED for life in lives.values())
        told = f", and {killed} were killed" if killed else ""
        tell(f"{len(states)} of {len(lives)} runs in {place} are running{told}; gens runs lists them all")
    return 0


def _named(name: Any, place: Path) -> list[Path]:
    for folder in (local_path(name), place / local_path(name)):
        found = list(find_runs(folder))
        if found:
            return found
    known = [folder.name for folder in find_runs(place)]
    raise InputError(
        f"{name}: there is no run in such a folder.{nearest(str(name), known)}",
        "gens runs lists the runs; those of another folder with paths.runs=...",
    )


def _lines(state: RunState, now: float) -> Iterator[str]:
    yield f"{shown(state.folder)}: {state.life}"
    facts = {name: value for name, value in state.facts.items() if value is not None}
    if "command" in facts:
        yield f"  command  {facts['command']}"
    if "started" in facts:
        ended = f", ended {facts['ended']}" if "ended" in facts else _so_far(state, now)
        yield f"  since    {facts['started']}{ended}"
    where = [f"{name} {facts[name]}" for name in ("host", "process", "machine", "gpu", "commit") if name in facts]
    if where:
        yield f"  where    {', '.join(where)}"
    versions = facts.get("versions")
    if isinstance(versions, Mapping):
        yield f"  with     {', '.join(f'{name} {version}' for name, version in versions.items())}"
    for stage in state.stages:
        yield f"  {_stage_line(stage, is_alive=state.life in ALIVE)}"
    if state.life in ALIVE:
        yield from (f"  {_worker_line(worker, state, now)}" for worker in state.workers)
    yield from (f"  {line}" for line in _remarks(state))


def _so_far(state: RunState, now: float) -> str:
    if state.sign is None:
        return ""
    age = max(0.0, now - state.sign)
    lasted = "" if state.elapsed is None else f", for {clock_text(state.elapsed + age * (state.life in ALIVE))}"
    return f"{lasted}, last sign of life {clock_text(age)} ago, {moment(state.sign)}"


def _stage_line(stage: StageState, is_alive: bool) -> str:
    parts = [f"{stage.stage} {stage.done} of {stage.total}, {max(0, stage.total - stage.done)} left"]
    if stage.kept:
        parts.append(f"{stage.kept} were there before")
    if stage.cached:
        parts.append(f"{stage.cached} from the cache")
    if stage.failed:
        statuses = ", ".join(f"{count} {status}" for status, count in stage.failed.items())
        parts.append(f"{sum(stage.failed.values())} failed: {statuses}")
    if is_alive and stage.rate is not None and stage.done < stage.total:
        parts.append(_speed(stage.rate))
        parts.append(f"about {clock_text(stage.seconds_left or 0)} to go")
    return "; ".join(parts)


def _worker_line(worker: WorkerState, state: RunState, now: float) -> str:
    name = "decoder" if worker.worker is None else f"worker {worker.worker}"
    places = (
        f"GPU {worker.gpu}" if worker.gpu else "",
        f"process {worker.pid}" if worker.pid is not None else "",
        worker.host if worker.host not in ("", state.facts.get("host")) else "",
    )
    lasted = f" for {clock_text(max(0.0, now + state.ahead - worker.since))}" if worker.since else ""
    video = f" {shown(Path(worker.video))}" if worker.video and worker.state not in ("idle", "dead") else ""
    return f"{name}  {', '.join(filter(None, places))}: {worker.state}{video}{lasted}"


def _speed(rate: float) -> str:
    return f"{rate:.3g} a second" if rate >= 1 else f"{60 * rate:.3g} a minute"


def _remarks(state: RunState) -> Iterator[str]:
    host = state.facts.get("host", "another machine")
    if state.life is Life.KILLED:
        yield with_remedy(
            "its process ended without a message: it was killed, or the machine ran out of memory",
            "run the same command again; it continues from here",
        )
    elif state.life is Life.SILENT:
        yield with_remedy(
            f"it gives no sign of life, and from here nobody can tell whether it still runs on {host}",
            f"look for process {state.facts.get('process', '?')} on {host}",
        )
    elif state.life is Life.UNKNOWN:
        yield "nothing in the folder says how its command ended"
    if state.outcome.problem:
        yield with_remedy(state.outcome.problem, state.outcome.remedy)
    if abs(state.ahead) > _CLOCKS_DIFFER:
        side = "ahead of" if state.ahead > 0 else "behind"
        yield f"the clock of {host} is {clock_text(abs(state.ahead))} {side} that of the file system"
    if state.unreadable:
        yield f"{state.unreadable} lines of its events cannot be read"
