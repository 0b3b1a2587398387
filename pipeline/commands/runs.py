"""``gens runs``: all run folders, a line each. With ``--prune`` those without rows, which ``--yes`` removes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from pipeline.commands.clearing import holds_something, remove_without_rows
from pipeline.commands.run_state import LAST_EVENTS, Life, RunState, find_runs, moment, read_state
from pipeline.commands.status import ALIVE
from pipeline.errors import ConfigError, PipelineError
from pipeline.paths import local_path, shown
from pipeline.stopping import ExitCode
from pipeline.terminal import remark, tell

_KEPT = (*ALIVE, Life.UNKNOWN)
"""Where nothing says that a command of ours has ended, the folder may be somebody else's."""


def run(config: DictConfig) -> int:
    """Print the runs, the last begun at the end."""
    if config.confirmed and not config.prune:
        raise ConfigError("--yes says yes to --prune, which is not there", "gens runs --prune --yes")
    place = local_path(config.paths.runs)
    states = [read_state(folder, time.time(), LAST_EVENTS) for folder in find_runs(place)]
    if config.prune:
        return _prune(states, local_path(config.paths.cache).absolute(), is_confirmed=config.confirmed)
    states.sort(key=lambda state: (str(state.facts.get("started", "")), state.sign or 0.0))
    if config.json:
        tell(json.dumps([state.content() for state in states], indent=2))
        return ExitCode.SUCCESS
    for line in _lines(states):
        tell(line)
    tell(f"{len(states)} {'run' if len(states) == 1 else 'runs'} in {place}")
    return ExitCode.SUCCESS


def _lines(states: Sequence[RunState]) -> Iterator[str]:
    for state in states:
        stage = state.stages[-1] if state.stages else None
        rows = f"{stage.done}/{stage.total}" if stage else "-"
        failed = str(sum(stage.failed.values())) if stage else "-"
        sign = "-" if state.sign is None else moment(state.sign)
        yield (
            f"{state.life:<11} {stage.stage if stage else '-':<9} {rows:>13} {failed:>6} failed  {sign:<19}  "
            f"{shown(state.folder)}"
        )


def _prune(states: Sequence[RunState], cache: Path, is_confirmed: bool) -> int:
    """Name or remove the folders that hold no row. Returns 2 if one could not be removed."""
    empty = [state.folder for state in states if state.life not in _KEPT and _may_go(state.folder, cache)]
    left = 0
    for folder in empty:
        if not is_confirmed:
            tell(f"would be removed: {shown(folder)}")
            continue
        try:
            remove_without_rows(folder)
        except PipelineError as error:
            remark(f"kept: {error}")
        if folder.exists():
            left += 1
            remark(f"kept: {shown(folder)}, which is in use or not ours to remove")
        else:
            tell(f"removed: {shown(folder)}")
    if is_confirmed:
        tell(f"{len(empty) - left} of {len(states)} run folders held no row and are removed")
    else:
        tell(f"{len(empty)} of {len(states)} run folders hold no row; gens runs --prune --yes removes them")
    return ExitCode.CANNOT_RUN if left else ExitCode.SUCCESS


def _may_go(folder: Path, cache: Path) -> bool:
    """Whether the folder holds no row, nothing of others, and has nothing to do with the cache."""
    here = folder.absolute()
    if cache.is_relative_to(here) or here.is_relative_to(cache):
        return False
    try:
        return not holds_something(folder)
    except OSError:
        return False
