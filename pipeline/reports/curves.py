"""Accuracy and evidence recall of many runs: against the number of frames, and by the labels of a benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.benchmarks.intervals import Interval
from pipeline.benchmarks.metrics import MeanRecall, Tally
from pipeline.reports.charts import Chart, Series, Value, chart
from pipeline.reports.choosing import family, in_order
from pipeline.reports.scoreboard import RunScore

MOST_CHARTS = 20
"""A label with more values has only its table."""


@dataclass(frozen=True)
class Cell:
    """One run over the questions of one group."""

    tally: Tally | None
    interval: Interval | None
    recall: MeanRecall | None


@dataclass(frozen=True)
class GroupRow:
    """One value of a label."""

    value: str
    questions: int
    cells: tuple[Cell, ...]
    """Parallel to the group's runs."""
    accuracy: Chart | None
    recall: Chart | None


@dataclass(frozen=True)
class Group:
    """Accuracy and evidence recall by the values of one label, or family of labels."""

    label: str
    of: str
    """Which questions, where a page has several sets."""
    runs: tuple[str, ...]
    rows: tuple[GroupRow, ...]
    has_recall: bool


def accuracy_chart(scores: Sequence[RunScore], of: str = "") -> Chart | None:
    """Accuracy against K over all questions, with intervals; ``of`` names the questions in the title."""
    found = [
        (each, Value(each.run.budget, share, *_ends(each.interval)))
        for each in scores
        if each.run.budget and each.accuracy and (share := each.accuracy.overall.accuracy) is not None
    ]
    return chart(f"Accuracy against frames{of and f': {of}'}", _series(found, answered=True))


def recall_chart(scores: Sequence[RunScore], of: str = "") -> Chart | None:
    """Evidence recall against K over all questions."""
    found = [
        (each, Value(each.run.budget, each.recall.overall.recall))
        for each in scores
        if each.run.budget and each.recall and each.recall.overall.recall is not None
    ]
    return chart(f"Evidence recall against frames{of and f': {of}'}", _series(found, answered=False))


def groups(scores: Sequence[RunScore], names: Mapping[str, str], of: str = "") -> list[Group]:
    """One for every label that a question brings, in their order; ``names`` of the runs by run name.

    Labels of one family are one group. ``of`` names the questions.
    """
    families: dict[str, Counter[tuple[str, str]]] = {}
    asked = {(question.id, question.text): question for each in scores for question in each.run.questions}
    for question in asked.values():
        for label, value in question.groups.items():
            families.setdefault(family(label), Counter())[label, value] += 1
    counted = [each for each in scores if each.accuracy or each.recall]
    return [
        Group(
            name,
            of,
            tuple(names[each.run.name] for each in counted),
            tuple(
                _row(label, value, found[label, value], counted, drawn=len(found) <= MOST_CHARTS)
                for label, value in sorted(found, key=lambda pair: in_order(pair[1]))
            ),
            any(each.recall and label in each.recall.groups for each in counted for label, _ in found),
        )
        for name, found in families.items()
    ]


def _row(label: str, value: str, questions: int, scores: Sequence[RunScore], drawn: bool) -> GroupRow:
    cells = tuple(_cell(label, value, each) for each in scores)
    pairs = list(zip(scores, cells, strict=True)) if drawn else []
    accuracies = [
        (each, Value(each.run.budget, share, *_ends(cell.interval)))
        for each, cell in pairs
        if each.run.budget and cell.tally and (share := cell.tally.accuracy) is not None
    ]
    recalls = [
        (each, Value(each.run.budget, cell.recall.recall))
        for each, cell in pairs
        if each.run.budget and cell.recall and cell.recall.recall is not None
    ]
    title = f"{family(label).replace('_', ' ')} {value}"
    return GroupRow(
        value,
        questions,
        cells,
        chart(f"Accuracy, {title}", _series(accuracies, answered=True), 380, 220),
        chart(f"Evidence recall, {title}", _series(recalls, answered=False), 380, 220),
    )


def _cell(label: str, value: str, each: RunScore) -> Cell:
    tally = each.accuracy.groups.get(label, {}).get(value) if each.accuracy else None
    return Cell(
        tally,
        each.accuracy.interval(label, value) if each.accuracy and tally else None,
        each.recall.groups.get(label, {}).get(value) if each.recall else None,
    )


def _series(found: Sequence[tuple[RunScore, Value]], answered: bool) -> list[Series]:
    """Runs that differ only in the budget are one series; a repeat of one of them begins another."""
    policies = {(each.run.sampler, each.run.selection) for each, _ in found}
    plain = len({sampler for sampler, _ in policies}) == len(policies)
    lines: list[tuple[str, dict[float, Value]]] = []
    for each, value in found:
        first = each.run.sampler if plain else f"{each.run.sampler} · {each.run.selection}"
        name = " → ".join(filter(None, (first, each.run.answerer if answered else "")))
        line = next((line for known, line in lines if known == name and value.frames not in line), None)
        if line is None:
            # What was selected does not depend on who answers: recall has one line a sampler.
            if not answered and any(known == name and value in line.values() for known, line in lines):
                continue
            line = {}
            lines.append((name, line))
        line[value.frames] = value
    return [Series(name, tuple(line[frames] for frames in sorted(line))) for name, line in lines]


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (interval.low, interval.high) if interval else (None, None)
