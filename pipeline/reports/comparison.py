"""Two runs side by side, as a table on the terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts.writing import write_whole
from pipeline.benchmarks.comparison import Comparison, Difference, by_group
from pipeline.benchmarks.intervals import Interval
from pipeline.benchmarks.metrics import MISSING, Accuracy
from pipeline.domain import Question, Status
from pipeline.terminal import draw, styled, tell

COMPARISON_FILE = "comparison.json"
SCHEMA = "gens/comparison/1"
SHOWN_FLIPS = 20
"""Number of flipped questions shown on the terminal; the file has all of them."""


@dataclass(frozen=True)
class ComparedRuns:
    """A comparison with the names of its runs."""

    first: str
    """The first run in a few words."""
    second: str
    comparison: Comparison

    @property
    def labels(self) -> list[str]:
        """The labels of the questions, in their order."""
        questions = (credit.question for credit in self.comparison.first.credits)
        return list(dict.fromkeys(label for question in questions for label in question.groups))


def write(sides: ComparedRuns, file: Path) -> None:
    """Write all figures, by every label, and the flipped questions."""
    compared = sides.comparison
    content = {
        "schema": SCHEMA,
        "first": {"name": sides.first, **_side(compared.first)},
        "second": {"name": sides.second, **_side(compared.second)},
        "questions": compared.questions,
        "difference": compared.difference,
        "interval": compared.interval and asdict(compared.interval),
        "p_value": compared.p_value,
        "both_right": compared.both_right,
        "both_wrong": compared.both_wrong,
        "gained": [question.id for question in compared.gained],
        "lost": [question.id for question in compared.lost],
        "groups": {label: _groups(by_group(compared, label)) for label in sides.labels},
    }
    write_whole(f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode(), file, "target=...")


def show(sides: ComparedRuns, group: str | None) -> None:
    """Print both accuracies, their difference, and the flipped questions; also by the values of ``group``."""
    from rich.table import Table

    compared = sides.comparison
    tell(f"first:  {sides.first}")
    tell(f"second: {sides.second}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(styled(group or ""))
    for heading in ("questions", "first", "second", "difference", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("all", str(compared.questions), *_figures(_overall(compared)))
    if group is not None:
        for value, found in by_group(compared, group).items():
            table.add_row(styled(value), str(found.questions), *_figures(found))
    draw(table)
    if compared.p_value is not None:
        tell(f"exact McNemar test: p = {compared.p_value:.3g}; intervals are clustered by video")
    _flips("right in the second run alone", compared.gained)
    _flips("right in the first run alone", compared.lost)
    for name, side in (("first", compared.first), ("second", compared.second)):
        if side.unanswered:
            tell(f"{name} is unfinished: {side.unanswered} without an answer yet, which count as wrong")
        failed = {status: count for status, count in side.statuses.items() if status not in (Status.OK, MISSING)}
        if failed:
            tell(f"{name}: {', '.join(f'{count} {status}' for status, count in failed.items())}")


def _overall(compared: Comparison) -> Difference | None:
    first, second = compared.first.overall.accuracy, compared.second.overall.accuracy
    if first is None or second is None or compared.difference is None:
        return None
    return Difference(compared.questions, first, second, compared.difference, compared.interval)


def _figures(found: Difference | None) -> tuple[str, str, str, str]:
    if found is None:
        return "-", "-", "-", "-"
    return (
        f"{100 * found.first:.1f} %",
        f"{100 * found.second:.1f} %",
        f"{100 * found.difference:+.1f}",
        _ends(found.interval),
    )


def _ends(interval: Interval | None) -> str:
    return f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}" if interval else "-"


def _flips(what: str, questions: Sequence[Question]) -> None:
    ids = ", ".join(question.id for question in questions[:SHOWN_FLIPS])
    more = f" and {len(questions) - SHOWN_FLIPS} more" if len(questions) > SHOWN_FLIPS else ""
    tell(f"{what}: {len(questions)}{': ' if ids else ''}{ids}{more}")


def _side(accuracy: Accuracy) -> dict[str, Any]:
    interval = accuracy.interval()
    return {
        "right": accuracy.overall.correct,
        "accuracy": accuracy.overall.accuracy,
        "interval": interval and asdict(interval),
        "statuses": dict(accuracy.statuses),
    }


def _groups(found: Mapping[str, Difference]) -> dict[str, Any]:
    return {value: asdict(difference) for value, difference in found.items()}
