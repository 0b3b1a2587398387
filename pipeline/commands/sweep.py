"""``gens VERB -m``: runs the jobs of a sweep and writes one summary of them.

The summary reads only what each job left in its run folder (:mod:`pipeline.commands.outcome`), so that jobs may run in
another process, on another machine, or in an earlier sweep. A job that cannot be composed, for instance because the
option chosen in it lacks a key, fails before the others start; they run all the same.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import configure_log
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline.commands.choices import ForChoice, unchosen
from pipeline.commands.clearing import clear_away, nearest_existing
from pipeline.commands.job import CONTINUES, Job
from pipeline.commands.launching import launch
from pipeline.commands.outcome import JobStatus, Outcome, read_outcome
from pipeline.commands.sweep_table import sweep_table, swept_keys
from pipeline.commands.without_scores import stand_in, words_of_use
from pipeline.config import build
from pipeline.environment import overrides_of
from pipeline.errors import ConfigError, PipelineError, with_remedy
from pipeline.explain import UnknownKeyError, explain
from pipeline.identity import digest
from pipeline.secrecy import without_secrets
from pipeline.stopping import ExitCode
from pipeline.terminal import draw, remark, tell

SWEEP_FILE = "sweep.json"
SCHEMA = "gens/sweep/1"


@dataclass(frozen=True)
class PlannedJob:
    """One job of the matrix."""

    overrides: tuple[str, ...]
    folder: Path | None
    """None if the job cannot be composed."""
    refused: PipelineError | None = None
    """Why the job cannot be composed."""
    choices: Mapping[str, str | None] = field(default_factory=dict)
    """The option of each group; empty if the job cannot be composed."""
    stand_in: str | None = None
    """The sampler that takes the place of the one that was typed, as the policy looks at no scores."""

    @property
    def words(self) -> tuple[str, ...]:
        """The overrides, without those of a sampler that does not run."""
        return tuple(words_of_use(self.overrides, self.stand_in))

    @property
    def values(self) -> dict[str, str]:
        """These by key."""
        return {key: value for word in self.words for key, _, value in [word.partition("=")]}


@dataclass(frozen=True)
class Sweep:
    """All jobs of one command line, known before the first starts."""

    verb: str
    command: str
    runs: Path
    jobs: list[PlannedJob]
    config: DictConfig
    """The configuration of the first job that can be composed, whose reader gives the page its pictures."""

    @property
    def folder(self) -> Path:
        """The summary's folder, named by the jobs: the same jobs in any order have the same one."""
        names = sorted({job.folder.name if job.folder else " ".join(job.overrides) for job in self.jobs})
        return self.runs / f"sweep-{self.verb}-{digest(names)[:8]}"

    def named(self, job: PlannedJob) -> str:
        """The job's values of the keys that differ between jobs."""
        values = job.values
        keys = swept_keys([each.values for each in self.jobs]) or list(values)
        return " ".join(f"{key}={values[key]}" for key in keys if key in values)


def run_sweep(hydra: Hydra, config: DictConfig, job: Job, chosen: Sequence[ForChoice]) -> list[int]:
    """Run the jobs of a sweep and summarise them, also after an interrupt.

    Args:
        hydra: composes the jobs.
        config: the configuration of the whole sweep.
        job: called with each job's configuration.
        chosen: overrides for jobs with one choice, which are in no configuration yet.

    Returns:
        The exit code of each job.

    Raises:
        ConfigError: no job can be composed.
        LauncherError: a job's process ended before the job did.
    """
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    logging.getLogger("hydra._internal.core_plugins").setLevel(logging.WARNING)  # each job prints its own line
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
    sweep = _planned(config, hydra.config_loader, job.verb, chosen)
    ready = [number for number, each in enumerate(sweep.jobs) if each.refused is None]
    for each in sweep.jobs:
        if each.refused is not None:
            remark(f"error: this job cannot run, the others continue: {sweep.named(each)}\n{each.refused}")
    job.of_jobs = len(ready)
    before = {job.folder: nearest_existing(job.folder) for job in sweep.jobs if job.folder is not None}
    has_folders = config.hydra.sweep.dir != "."
    values = [each.values for each in sweep.jobs]
    job.swept = tuple(swept_keys(values)) or tuple(values[0])
    job.is_summed_up = has_folders
    try:
        codes = launch(config, context, job, [list(sweep.jobs[number].overrides) for number in ready])
    finally:
        # Where a job ran: elsewhere than planned if a YAML was edited since the sweep began.
        for place, folder in job.places.items():
            sweep.jobs[ready[place]] = replace(sweep.jobs[ready[place]], folder=folder)
        if has_folders:
            codes = _sum_up(sweep, before)
    if has_folders:
        return codes
    return [*codes, *(ExitCode.CANNOT_RUN for each in sweep.jobs if each.refused is not None)]


def _planned(config: DictConfig, loader: ConfigLoader, verb: str, chosen: Sequence[ForChoice]) -> Sweep:
    words = overrides_of(config.hydra)
    given = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    (matrix,) = BasicSweeper.split_arguments(OverridesParser.create(loader).parse_overrides([*given, *words]), None)
    used: set[ForChoice] = set()
    jobs: dict[tuple[str, ...], PlannedJob] = {}
    configs: list[DictConfig] = []
    for overrides in matrix:
        for job, composed in _composed(config, loader, verb, overrides, chosen, used):
            if job.words not in jobs:
                jobs[job.words] = job
                configs += [composed] if composed is not None else []
    command = shlex.join(["gens", verb, "-m", *words, *(word.word for word in chosen)])
    planned = [_with_a_way(job, list(jobs.values()), words) for job in jobs.values()]
    sweep = Sweep(verb, command, Path(config.hydra.sweep.dir), planned, configs[0] if configs else config)
    if not configs:
        raise _refusal(sweep)
    for word in chosen:
        if word not in used:
            raise unchosen(word)
    return sweep


def _refusal(sweep: Sweep) -> PipelineError:
    """Why no job can run: the one reason of all, or one that follows each job's own on standard error."""
    refused = {str(job.refused): (job, job.refused) for job in sweep.jobs if job.refused is not None}
    if len(refused) == 1:
        ((_, error),) = refused.values()
        return error
    for job, error in refused.values():
        remark(f"error: this job cannot run: {sweep.named(job)}\n{error}")
    return ConfigError("no job of this sweep can run", "correct the words that are named above, job by job")


def _composed(
    config: DictConfig,
    loader: ConfigLoader,
    verb: str,
    overrides: Sequence[str],
    chosen: Sequence[ForChoice],
    used: set[ForChoice],
) -> Iterator[tuple[PlannedJob, DictConfig | None]]:
    """The job of these overrides, or several jobs if overrides for its choices have several values."""
    try:
        composed = loader.load_sweep_config(config, list(overrides))
        of_choices = {word: word.overrides(composed.hydra.runtime.choices) for word in chosen}
        used |= {word for word, more in of_choices.items() if more}
        more = [word for words in of_choices.values() for word in words]
        (alternatives,) = BasicSweeper.split_arguments(OverridesParser.create(loader).parse_overrides(more), None)
    except (HydraException, OmegaConfBaseException) as error:
        yield _refused(overrides, verb, error), None
        return
    for added in alternatives:
        words = [*overrides, *added]
        try:
            whole = loader.load_sweep_config(config, words) if added else composed
            choices = dict(whole.hydra.runtime.choices)
            yield PlannedJob(tuple(words), _folder(whole), choices=choices, stand_in=stand_in(whole)), whole
        except (HydraException, OmegaConfBaseException) as error:
            yield _refused(words, verb, error), None


def _folder(config: DictConfig) -> Path:
    before = HydraConfig.instance().cfg
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = 0
    try:
        HydraConfig.instance().set_config(config)
        return (Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir)).absolute()
    finally:
        HydraConfig.instance().cfg = before


def _refused(overrides: Sequence[str], verb: str, error: Exception) -> PlannedJob:
    explained = explain(error, verb, overrides)
    if explained is None:
        raise error
    return PlannedJob(tuple(overrides), None, explained)


def _with_a_way(job: PlannedJob, jobs: Sequence[PlannedJob], words: Sequence[str]) -> PlannedJob:
    """The job, with a remedy that sets the key it lacks only in the jobs that have it."""
    error = job.refused
    if not isinstance(error, UnknownKeyError) or error.group is None:
        return job
    word = next((word for word in words if word.partition("=")[0].lstrip("+") == error.key), None)
    have_it = dict.fromkeys(
        option for each in jobs for option in [_option_with(error, each)] if option not in (None, error.option)
    )
    if word is None or not have_it:
        return job
    sign, inside = word[: len(word) - len(word.lstrip("+"))], error.key.removeprefix(f"{error.package}.")
    value = word.partition("=")[2]
    instead = shlex.join(f"{sign}{error.group.partition('@')[0]}/{option}.{inside}={value}" for option in have_it)
    remedy = f"set it for the choice that has it: {instead} in place of {shlex.quote(word)}"
    # A key with a similar name is not what was meant.
    problem = error.problem.partition(" Did you mean")[0]
    mended = UnknownKeyError(problem, remedy, error.key, error.group, error.package, error.option)
    return replace(job, refused=mended)


def _option_with(error: UnknownKeyError, job: PlannedJob) -> str | None:
    """The option of another job that has the key: the job can be composed, or it lacks another key of that group."""
    other = job.refused
    if other is None:
        return job.choices.get(error.group or "")
    if isinstance(other, UnknownKeyError) and other.group == error.group and other.key != error.key:
        return other.option
    return None


def _sum_up(sweep: Sweep, before: Mapping[Path, Path]) -> list[int]:
    """Write sweep.json, and the page if there is something to show. Returns the exit codes.

    ``before`` maps each job's folder to the nearest parent that existed before the sweep.
    """
    from pipeline.artefacts.folder import QUESTIONS_FILE  # every verb imports this module, and most need no rows

    outcomes = [_outcome(job) for job in sweep.jobs]
    for folder, there in before.items():
        clear_away(folder, there)
    if any(outcome.status is JobStatus.INTERRUPTED for outcome in outcomes):
        remark("\ninterrupted: the summary covers what is finished; press Ctrl-C again to skip it")
    shown = [job.folder for job in sweep.jobs if job.folder is not None and job.folder.is_dir()]
    if shown:
        _write(sweep, outcomes)
    shown = [folder for folder in shown if any(folder.rglob(QUESTIONS_FILE))]
    if shown:
        from pipeline.reports.page import page_on

        reader = build(sweep.config.reader, "reader", sweep.config.plugins)
        page_on(list(dict.fromkeys(shown)), reader, sweep.folder)
    _tell(sweep, outcomes)
    return [ExitCode.CANNOT_RUN if outcome.code is None else outcome.code for outcome in outcomes]


def _outcome(job: PlannedJob) -> Outcome:
    """The outcome in the job's folder.

    A job that is still ``running`` after the sweep was ended from outside, or is a job of Slurm that goes on.
    """
    if job.folder is None:
        assert job.refused is not None
        return Outcome(JobStatus.FAILED, ExitCode.CANNOT_RUN, job.refused.problem, job.refused.remedy)
    outcome = read_outcome(job.folder)
    if outcome.status is JobStatus.RUNNING:
        from pipeline.commands.run_state import Life, read_state

        if read_state(job.folder, time.time()).life in (Life.RUNNING, Life.SILENT):
            goes_on = "it goes on in another process", "gens status says how far it is; then the same command sums up"
            return Outcome(JobStatus.RUNNING, None, *goes_on)
        problem = "its process ended without a message: it was killed, or the machine ran out of memory"
        return Outcome(JobStatus.INTERRUPTED, ExitCode.CANNOT_RUN, problem, CONTINUES)
    return outcome


def _write(sweep: Sweep, outcomes: Sequence[Outcome]) -> None:
    from pipeline.artefacts.writing import write_whole

    rows = [
        {
            "overrides": job.overrides,
            # A job that failed before it had a result has left no folder.
            "folder": os.path.relpath(job.folder, sweep.folder)
            if job.folder is not None and job.folder.is_dir()
            else None,
            **outcome.content(),
        }
        for job, outcome in zip(sweep.jobs, outcomes, strict=True)
    ]
    text = json.dumps({"schema": SCHEMA, "command": without_secrets(sweep.command), "jobs": rows}, indent=2)
    write_whole(f"{text}\n".encode(), sweep.folder / SWEEP_FILE, "paths.runs=...")


def _tell(sweep: Sweep, outcomes: Sequence[Outcome]) -> None:
    """Print the matrix, and for each job that is not done why and what to do."""
    jobs = [job.values for job in sweep.jobs]
    draw(sweep_table(jobs, [job.folder for job in sweep.jobs], outcomes))
    counts = Counter(outcome.status for outcome in outcomes)
    how_many = ", ".join(f"{counts[status]} {status}" for status in JobStatus if counts[status])
    summary = sweep.folder / SWEEP_FILE
    tell(f"sweep of {len(outcomes)} jobs, {how_many}" + (f": {summary}" if summary.is_file() else ""))
    for job, outcome in zip(sweep.jobs, outcomes, strict=True):
        if outcome.problem:
            remark(f"{outcome.status}: {sweep.named(job)}\n{with_remedy(outcome.problem, outcome.remedy)}")
