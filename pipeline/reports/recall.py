"""Evidence recall as a table on the terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.artefacts.writing import write_whole
from pipeline.benchmarks.metrics import EvidenceScores, MeanScores
from pipeline.domain import Question
from pipeline.terminal import draw, styled, tell

RECALL_FILE = "recall.json"
SCHEMA = "gens/recall/1"


@dataclass(frozen=True)
class Measured:
    """One set of selections."""

    of: str
    """Its name in a few words: sampler and budget, or a file."""
    policy: str
    """The policy, as the selections name it."""
    frames: float
    """Average number of frames per question."""
    recalls: Sequence[EvidenceScores]
    """At each tolerance."""


def write(measured: Sequence[Measured], file: Path) -> None:
    """Write all figures, by every label of the benchmark."""
    found = {"schema": SCHEMA, "measured": [asdict(each) for each in measured]}
    write_whole(f"{json.dumps(found, indent=2, ensure_ascii=False)}\n".encode(), file, "paths.runs=...")


def show(measured: Sequence[Measured], questions: Sequence[Question], group: str | None) -> None:
    """Print recall over all questions and by the values of ``group``; compare it at equal numbers of frames only."""
    from rich.table import Table

    values = _values(measured, group)
    table = Table(title="evidence recall", title_justify="left", box=None, pad_edge=False)
    table.add_column("selected", overflow="fold")
    for column in ("frames", "within", "precision", "F1", "recall", *(f"{value}" for value in values)):
        table.add_column(styled(column), justify="right")
    for each in measured:
        for place, recall in enumerate(each.recalls):
            named = (each.of, f"{each.frames:.1f}") if place == 0 else ("", "")
            groups = recall.groups.get(group, {}) if group else {}
            found = recall.overall
            cells = [found.precision, found.f1, found.recall, *(_recall(groups.get(value)) for value in values)]
            table.add_row(*map(styled, named), f"{recall.tolerance:g} s", *map(_share, cells))
        table.add_section()
    counted = measured[0].recalls[0]
    groups = counted.groups.get(group, {}) if group else {}
    sizes = [str(counted.overall.questions), *(str(groups[value].questions) for value in values)]
    table.add_row("questions", "", "", "", "", *sizes)
    draw(table)
    policies = "; ".join(dict.fromkeys(each.policy for each in measured))
    tell(f"{f'recall by {group}; ' if group else ''}selected by: {policies}")
    without = len(questions) - counted.overall.questions
    if without:
        tell(f"{without} of {len(questions)} questions have no evidence and are not counted")


def _values(measured: Sequence[Measured], group: str | None) -> list[str]:
    if group is None:
        return []
    found = measured[0].recalls[0].groups.get(group, {})
    return sorted(found, key=lambda value: (not value[:1].isdecimal(), _leading_number(value), value))


def _leading_number(value: str) -> float:
    digits = "".join(letter for letter in value.split("-", maxsplit=1)[0] if letter.isdecimal())
    return float(digits) if digits else 0.0


def _recall(mean: MeanScores | None) -> float | None:
    return None if mean is None else mean.recall


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
