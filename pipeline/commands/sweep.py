"""``gens VERB -m``: one summary of a whole sweep, whatever became of its jobs and wherever they ran.

What a job left in its run folder (:mod:`pipeline.commands.outcome`) is all that is asked of it, so that it may have run
in another process, on another machine, or in an earlier sweep.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline.commands.job import FAILED, GOES_ON, INTERRUPTED
from pipeline.commands.outcome import JobStatus, Outcome, read_outcome
from pipeline.commands.sweep_table import sweep_table, swept_keys
from pipeline.config import build
from pipeline.errors import PipelineError, with_remedy
from pipeline.identity import digest

SWEEP_FILE = "sweep.json"
SCHEMA = "gens/sweep/1"


@dataclass(frozen=True)
class PlannedJob:
    """One cell of the matrix."""

    overrides: tuple[str, ...]
    folder: Path

    @property
    def values(self) -> dict[str, str]:
        """The overrides by key."""
        return {key: value for word in self.overrides for key, _, value in [word.partition("=")]}


@dataclass(frozen=True)
class Sweep:
    """All jobs of one command line, known before the first starts."""

    verb: str
    command: str
    runs: Path
    jobs: list[PlannedJob]
    config: DictConfig
    """Of the first job, for the page's pictures."""

    @property
    def folder(self) -> Path:
        """Named by what is computed: the same jobs, in whatever order, have one summary."""
        names = sorted({job.folder.name for job in self.jobs})
        return self.runs / f"sweep-{self.verb}-{digest(names)[:8]}"


_announced: ContextVar[list[Sweep] | None] = ContextVar("announced", default=None)


class Announcer(Callback):  # type: ignore[misc]
    """Hydra tells it that a sweep begins, and with which configuration."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Find out the jobs. A command line that gives none that can be composed is refused by Hydra right after."""
        announced = _announced.get()
        of_basic = config.hydra.sweeper._target_ == f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"
        if announced is None or not of_basic:
            return  # other sweepers think of their jobs one after the other
        try:
            announced.append(_planned(config))
        except (HydraException, OmegaConfBaseException, PipelineError):
            return

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Note where the job runs: elsewhere than planned if a YAML was edited since the sweep began."""
        for sweep in _announced.get() or ():
            number = config.hydra.job.num
            sweep.jobs[number] = replace(sweep.jobs[number], folder=Path(config.hydra.runtime.output_dir))


@contextmanager
def summed_up(codes: list[int]) -> Iterator[None]:
    """Sum up the sweep that is run inside, also where it is interrupted; ``codes`` get the exit code of each job."""
    announced: list[Sweep] = []
    token = _announced.set(announced)
    try:
        yield
    finally:
        _announced.reset(token)
        for sweep in announced:
            codes.extend(_sum_up(sweep))


def _planned(config: DictConfig) -> Sweep:
    loader = GlobalHydra.instance().config_loader()
    given = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    typed = list(config.hydra.overrides.task)
    parsed = OverridesParser.create(config_loader=loader).parse_overrides([*given, *typed])
    (matrix,) = BasicSweeper.split_arguments(parsed, None)
    jobs: list[PlannedJob] = []
    configs: list[DictConfig] = []
    before = HydraConfig.instance().cfg
    try:
        for number, overrides in enumerate(matrix):
            composed = loader.load_sweep_config(config, list(overrides))
            with open_dict(composed):
                composed.hydra.job.id = composed.hydra.job.num = number
            HydraConfig.instance().set_config(composed)
            folder = Path(composed.hydra.sweep.dir) / str(composed.hydra.sweep.subdir)
            jobs.append(PlannedJob(tuple(overrides), folder))
            configs.append(composed)
    finally:
        HydraConfig.instance().cfg = before
    verb = str(config.hydra.job.config_name)
    return Sweep(verb, " ".join(["gens", verb, "-m", *typed]), Path(config.hydra.sweep.dir), jobs, configs[0])


def _sum_up(sweep: Sweep) -> list[int]:
    """Write sweep.json, then the page where there is something to show; tell both. The exit codes."""
    from pipeline.artefacts.folder import QUESTIONS_FILE  # every verb imports this module, and most need no rows

    outcomes = [_ended(read_outcome(job.folder)) for job in sweep.jobs]
    _write(sweep, outcomes)
    if any(outcome.code == INTERRUPTED for outcome in outcomes):
        print("\ninterrupted: the summary is of what is there; Ctrl-C again leaves it out", file=sys.stderr)
    shown = [job.folder for job in sweep.jobs if any(job.folder.rglob(QUESTIONS_FILE))]
    if shown:
        from pipeline.reports.page import report_on

        reader = build(sweep.config.reader, "reader", sweep.config.plugins)
        report_on(list(dict.fromkeys(shown)), reader, sweep.folder)
    _tell(sweep, outcomes)
    return [FAILED if outcome.code is None else outcome.code for outcome in outcomes]


def _ended(outcome: Outcome) -> Outcome:
    """What stands in the folder, read after the sweep: who is still running then was ended from outside."""
    if outcome.status is JobStatus.RUNNING:
        problem = "its process ended without a word: killed, or the machine was out of memory"
        return Outcome(JobStatus.INTERRUPTED, FAILED, problem, GOES_ON)
    return outcome


def _write(sweep: Sweep, outcomes: Sequence[Outcome]) -> None:
    from pipeline.reports.document import write_whole

    rows = [
        {
            "overrides": job.overrides,
            "folder": os.path.relpath(job.folder, sweep.folder),
            # Where in the program is for outcome.json to tell.
            **asdict(replace(outcome, traceback="")),
        }
        for job, outcome in zip(sweep.jobs, outcomes, strict=True)
    ]
    text = json.dumps({"schema": SCHEMA, "command": sweep.command, "jobs": rows}, indent=2, ensure_ascii=False)
    write_whole(f"{text}\n".encode(), sweep.folder / SWEEP_FILE, "paths.runs=...")


def _tell(sweep: Sweep, outcomes: Sequence[Outcome]) -> None:
    """Print the matrix, and of each job that is not done why and what helps."""
    from rich.console import Console

    from pipeline.reports.page import RECALL_TOLERANCE

    jobs = [job.values for job in sweep.jobs]
    Console().print(sweep_table(jobs, [job.folder for job in sweep.jobs], outcomes, RECALL_TOLERANCE))
    counts = Counter(outcome.status for outcome in outcomes)
    how_many = ", ".join(f"{counts[status]} {status}" for status in JobStatus if counts[status])
    print(f"sweep of {len(outcomes)} jobs, {how_many}: {sweep.folder / SWEEP_FILE}", flush=True)
    keys = swept_keys(jobs)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if outcome.problem:
            named = " ".join(f"{key}={job[key]}" for key in keys if key in job)
            print(f"{outcome.status}: {named}\n{with_remedy(outcome.problem, outcome.remedy)}", file=sys.stderr)
