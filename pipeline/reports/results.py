"""The table at the end of ``demo`` and ``evaluate`` in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from pipeline.benchmarks.grounding import THRESHOLDS
from pipeline.terminal import styled

if TYPE_CHECKING:
    from pipeline.reports.scoreboard import RunScore


def results_table(scores: Sequence[RunScore]) -> Table:
    """One line per run: sampler x answerer, accuracy, evidence recall, failures.

    Accuracy is strict: a failed, unparsed or missing answer is a wrong one.
    """
    # A column that is the same in all rows only makes lines break.
    stages = (["sampler"], ["sampler", "budget"], ["sampler", "selection"], ["sampler", "selection", "budget"])
    told = next(
        (
            told
            for told in (*stages, *(["benchmark", *stage] for stage in stages))
            if not _ambiguous(scores, *told, "answerer")
        ),
        None,
    )
    # A run folder's name contains its parts, and their own columns would not fit into a terminal.
    told = ["name"] if told is None else [*told, "answerer"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in told:
        table.add_column(_HEADINGS.get(heading, heading), overflow="fold")
    for heading in ("accuracy", "right", "evidence recall", "failed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in scores:
        names = [getattr(each.run, heading) for heading in told]
        table.add_row(*(styled(name or "-") for name in names), *map(styled, _figures(each)))
    return table


def notes_on(scores: Sequence[RunScore]) -> list[str]:
    """A line a run whose answers are intervals, and one a run whose questions are scored in groups."""
    return [*_interval_notes(scores), *_group_notes(scores)]


def _interval_notes(scores: Sequence[RunScore]) -> list[str]:
    notes = []
    for each in scores:
        if each.grounding:
            own, *others = each.grounding
            found = ", ".join(f"R@{threshold:g} {share(own.at_least(threshold))}" for threshold in THRESHOLDS)
            note = f"{each.run.name}: mIoU {share(own.mean)}, {found}"
            if own.unread:
                note += f"; {own.unread} of {len(own.credits)} answers name no interval, which counts as 0"
            notes.append(note + "".join(f"; {other.rule.name} {share(other.mean)}" for other in others))
    return notes


def _group_notes(scores: Sequence[RunScore]) -> list[str]:
    notes = []
    for each in scores:
        found = each.official[0].groups if each.official else None
        if found is None or not found.groups:
            continue
        note = f"{each.run.name}: group score {share(found.mean)} over {len(found.groups)} groups"
        if found.incomplete:
            named = ", ".join(found.incomplete[:_MOST_NAMED]) + (" ..." if len(found.incomplete) > _MOST_NAMED else "")
            note += f"; {len(found.incomplete)} incomplete, whose missing answers count as wrong: {named}"
        notes.append(note)
    return notes


_MOST_NAMED = 5
"""Groups that a line names."""
_HEADINGS = {"name": "run", "budget": "K"}


def share(value: float | None) -> str:
    """``0.873`` is ``87.3 %``; None is a dash."""
    return "-" if value is None else f"{100 * value:.1f} %"


def _ambiguous(scores: Sequence[RunScore], *told: str) -> bool:
    return len({tuple(getattr(each.run, part) for part in told) for each in scores}) < len(scores)


def _figures(each: RunScore) -> tuple[str, str, str, str]:
    recall = share(each.recall.overall.recall) if each.recall else "-"
    if each.accuracy is None:
        return "-", f"- of {each.questions}", recall, "-"
    overall = each.accuracy.overall
    failed = str(each.failed) + (f" + {each.unanswered} missing" if each.unanswered else "")
    right = f"{overall.correct} of {overall.total}" if overall.total else "-"
    return share(overall.accuracy), right, recall, failed
