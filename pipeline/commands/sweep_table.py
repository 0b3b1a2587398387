"""The matrix of a sweep in a terminal: one line per job, with the values that differ between jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.outcome import JobStatus, Outcome
from pipeline.terminal import styled

if TYPE_CHECKING:
    from rich.table import Table


def swept_keys(jobs: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys whose values differ between ``jobs`` (key to value), in the order of the command line."""
    keys = dict.fromkeys(key for job in jobs for key in job)
    return [key for key in keys if len({job.get(key) for job in jobs}) > 1]


def sweep_table(
    jobs: Sequence[Mapping[str, str]],
    folders: Sequence[Path | None],
    outcomes: Sequence[Outcome],
) -> Table:
    """Swept values, accuracy and evidence recall of jobs that are done, and how each job ended.

    Accuracy is strict: a failed, unparsed or missing answer is a wrong one.

    Raises:
        InputError: a row of a run cannot be used.
    """
    from rich.table import Table

    keys = swept_keys(jobs)
    lasts = [key.rpartition(".")[2] for key in keys]
    measured = [_figures(folder, outcome) for folder, outcome in zip(folders, outcomes, strict=True)]
    headings = [heading for heading in ("accuracy", "evidence recall") if any(heading in each for each in measured)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key, last in zip(keys, lasts, strict=True):
        table.add_column(last if lasts.count(last) == 1 else key, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("job", no_wrap=True)
    for job, figures, outcome in zip(jobs, measured, outcomes, strict=True):
        cells = [job.get(key, "") for key in keys] + [figures.get(heading, "-") for heading in headings]
        ended = "done, some questions failed" if outcome.status is JobStatus.DONE and outcome.code else outcome.status
        table.add_row(*map(styled, (*cells, ended)))
    return table


def _figures(folder: Path | None, outcome: Outcome) -> dict[str, str]:
    """Figures by heading; empty for a job that is not done, since partial figures cannot be compared."""
    from pipeline.artefacts.folder import QUESTIONS_FILE

    if folder is None or outcome.status is not JobStatus.DONE or not (folder / QUESTIONS_FILE).is_file():
        return {}
    from pipeline.reports.results import share
    from pipeline.reports.runs import read_run
    from pipeline.reports.scoreboard import score

    found = score(read_run(folder, folder.name))
    figures = {}
    if found.accuracy is not None:
        figures["accuracy"] = share(found.accuracy.overall.accuracy)
    if found.recall is not None:
        figures["evidence recall"] = share(found.recall.overall.recall)
    return figures
