"""A report as files for other programs: ``summary.json``, ``results.csv``, ``results.md`` and ``questions.csv``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.artefacts.writing import write_parts, write_whole
from pipeline.benchmarks.grounding import THRESHOLDS, Grounding
from pipeline.benchmarks.intervals import Interval
from pipeline.benchmarks.metrics import MeanRecall, Tally
from pipeline.reports.costs import stage_costs
from pipeline.reports.judged import agreement
from pipeline.reports.questions import QUESTIONS_TABLE, questions_csv
from pipeline.reports.results import share
from pipeline.reports.scoreboard import OfficialScore, RunScore
from pipeline.wellformed import well_formed

SUMMARY_FILE = "summary.json"
TABLE_FILE = "results.csv"
MARKDOWN_FILE = "results.md"
SCHEMA = "gens/summary/1"

COLUMNS = (
    "run",
    "benchmark",
    "sampler",
    "selection",
    "budget",
    "answerer",
    "rule",
    "label",
    "value",
    "right",
    "counted",
    "accuracy",
    "low",
    "high",
    "evidence_recall",
    "evidence_questions",
)
"""Of ``results.csv``. ``rule`` is ``strict`` or whose code counts; ``label`` is empty over all questions."""


_OF_STAGES = ("seconds", "prompt_tokens", "output_tokens", "thinking_tokens", "dollars")
"""Told of every stage as they were when they were computed, from a cache or not."""


def write_exports(scores: Sequence[RunScore], folder: Path, override: str) -> None:
    """Write the files into ``folder``.

    Raises:
        StorageError: they cannot be written; ``override`` is what chooses another place.
    """
    summary = {"schema": SCHEMA, "runs": [_summary(each) for each in scores]}
    text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    write_whole(text.encode(), folder / SUMMARY_FILE, override)
    write_whole(_table(scores).encode(), folder / TABLE_FILE, override)
    write_whole(_markdown(scores).encode(), folder / MARKDOWN_FILE, override)
    lines = questions_csv([each.run for each in scores])
    write_parts((well_formed(line).encode() for line in lines), folder / QUESTIONS_TABLE, override)


def _summary(each: RunScore) -> dict[str, Any]:
    run, counted = each.run, each.accuracy
    return {
        "run": run.name,
        "benchmark": run.benchmark,
        "sampler": run.sampler,
        "selection": run.selection,
        "budget": run.budget,
        "answerer": run.answerer,
        "questions": each.questions,
        "unfinished": list(run.missing),
        "strict": counted
        and {
            **_accuracy(counted.overall, each.interval),
            "not_graded": counted.not_counted,
            "groups": {
                label: {value: _accuracy(tally, counted.interval(label, value)) for value, tally in values.items()}
                for label, values in counted.groups.items()
            },
        },
        "official": [
            {
                "rule": official.rule.name,
                "about": official.rule.about,
                "figure": official.figure,
                **_ends(official.interval),
                "right": official.accuracy.overall.correct,
                "counted": official.accuracy.overall.total,
                "left_out": official.accuracy.left_out,
                "drawn": official.accuracy.drawn,
                **_groups(official),
            }
            for official in each.official
        ],
        "intervals": [_intervals(found) for found in each.grounding],
        "evidence": each.recall
        and {
            "tolerance": each.recall.tolerance,
            **_recall(each.recall.overall),
            "groups": {
                label: {value: _recall(mean) for value, mean in values.items()}
                for label, values in each.recall.groups.items()
            },
        },
        "judged": [
            {
                "judge": judged.label,
                "figure": judged.figure,
                "at_most": judged.at_most,
                **_ends(judged.interval),
                "lowest": judged.by.lowest,
                "highest": judged.by.highest,
                "best": judged.best,
                "counted": judged.total,
                "missing": judged.missing,
                "without_verdict": dict(judged.without_verdict),
                "models": list(judged.models),
                "repeats": judged.repeats,
                "agreement": {other.label: agreement(judged, other)[0] for other in each.judged if other is not judged},
                "calibration": asdict(judged.by.calibration) if judged.by.calibration else None,
                "notes": list(judged.by.notes),
                "settings": dict(judged.by.settings),
            }
            for judged in each.judged
        ],
        "statuses": dict(counted.statuses) if counted else {},
        "stages": [
            {
                "stage": cost.stage,
                "name": cost.name,
                "questions": cost.questions,
                **{name: cost.took.cost.get(name, 0) for name in _OF_STAGES},
                "cached": cost.took.cached,
                "device": cost.took.device,
                "spent": dict(cost.took.spent),
                "alone": dict(cost.took.alone),
                "not_of_all": sorted(cost.took.unknown & set(cost.took.alone)),
                "cut_thoughts": cost.took.cut_thoughts,
            }
            for cost in stage_costs(run)
        ],
        "versions": dict(run.versions),
    }


def _intervals(found: Grounding) -> dict[str, Any]:
    """The figures of answers that are intervals."""
    return {
        "rule": found.rule.name or "strict",
        "about": found.rule.about,
        "miou": found.mean,
        **_ends(found.interval()),
        "at_least": {f"{threshold:g}": found.at_least(threshold) for threshold in THRESHOLDS},
        "counted": len(found.counted),
        "without_interval": found.unread,
        "groups": {
            label: {value: {"miou": mean, "counted": count} for value, (mean, count) in values.items()}
            for label, values in found.groups.items()
        },
    }


def _groups(official: OfficialScore) -> dict[str, Any]:
    """The scores of groups of questions, where the rule has them."""
    found = official.groups
    if found is None:
        return {}
    classes = {
        label: {value: {"score": score, "groups": count} for value, (score, count) in values.items()}
        for label, values in found.classes.items()
    }
    return {"groups": {"counted": len(found.groups), "incomplete": list(found.incomplete), "classes": classes}}


def _accuracy(tally: Tally, interval: Interval | None) -> dict[str, Any]:
    return {"right": tally.correct, "counted": tally.total, "accuracy": tally.accuracy, **_ends(interval)}


def _ends(interval: Interval | None) -> dict[str, float | None]:
    return {"low": interval.low, "high": interval.high} if interval else {"low": None, "high": None}


def _recall(mean: MeanRecall) -> dict[str, Any]:
    return {"recall": mean.recall, "questions": mean.questions}


def _table(scores: Sequence[RunScore]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in scores:
        run = each.run
        named = (run.name, run.benchmark, run.sampler, run.selection, run.budget or "", run.answerer)
        for row in _rows(each):
            writer.writerow([*named, *("" if cell is None else cell for cell in row)])
    return file.getvalue()


def _rows(each: RunScore) -> Iterator[tuple[object, ...]]:
    overall = each.recall.overall if each.recall else None
    if each.accuracy:
        yield ("strict", "", "", *_cells(each.accuracy.overall, each.interval), *_seen(overall))
    elif overall:
        yield ("strict", "", "", *_cells(None, None), *_seen(overall))
    for official in each.official:
        tally = official.accuracy.overall
        ends = (official.interval.low, official.interval.high) if official.interval else (None, None)
        yield (official.rule.name, "", "", tally.correct, tally.total, official.figure, *ends, None, None)
        for label, values in official.groups.classes.items() if official.groups else ():
            for value, (share_of, count) in values.items():
                yield (official.rule.name, label, value, None, count, share_of, None, None, None, None)
    for judged in each.judged:
        ends = (judged.interval.low, judged.interval.high) if judged.interval else (None, None)
        yield (f"judge: {judged.label}", "", "", judged.best, judged.total, judged.figure, *ends, None, None)
    for grounded in each.grounding:
        interval = grounded.interval()
        ends = (interval.low, interval.high) if interval else (None, None)
        rule = f"mIoU, {grounded.rule.name or 'strict'}"
        yield (rule, "", "", None, len(grounded.counted), grounded.mean, *ends, None, None)
        for label, values in grounded.groups.items():
            for value, (mean, count) in values.items():
                yield (rule, label, value, None, count, mean, None, None, None, None)
    tallies = each.accuracy.groups if each.accuracy else {}
    recalls = each.recall.groups if each.recall else {}
    for label in dict.fromkeys((*tallies, *recalls)):
        for value in dict.fromkeys((*tallies.get(label, {}), *recalls.get(label, {}))):
            found = tallies.get(label, {}).get(value)
            interval = each.accuracy.interval(label, value) if each.accuracy and found else None
            yield ("strict", label, value, *_cells(found, interval), *_seen(recalls.get(label, {}).get(value)))


def _cells(tally: Tally | None, interval: Interval | None) -> tuple[object, ...]:
    if tally is None:
        return (None,) * 5
    ends = (interval.low, interval.high) if interval else (None, None)
    return (tally.correct, tally.total, tally.accuracy, *ends)


def _seen(mean: MeanRecall | None) -> tuple[object, object]:
    return (mean.recall, mean.questions) if mean else (None, None)


def _markdown(scores: Sequence[RunScore]) -> str:
    rules = list(dict.fromkeys(official.rule.name for each in scores for official in each.official))
    judges = list(dict.fromkeys(judged.label for each in scores for judged in each.judged))
    heads = [
        "benchmark",
        "sampler",
        "selection",
        "K",
        "answerer",
        "accuracy",
        "95 %",
        "right",
        *rules,
        *judges,
        "evidence recall",
        "failed",
    ]
    lines = [list(map(_cell, heads)), ["---"] * 5 + ["---:"] * (len(heads) - 5)]
    for each in scores:
        run, tally = each.run, each.accuracy.overall if each.accuracy else None
        told = {official.rule.name: share(official.figure) for official in each.official}
        missing = f", {each.unanswered} missing" if each.unanswered else ""
        lines.append(
            [
                *(
                    _cell(str(part or "-"))
                    for part in (run.benchmark, run.sampler, run.selection, run.budget, run.answerer)
                ),
                share(tally.accuracy if tally else None),
                f"{100 * each.interval.low:.1f} to {100 * each.interval.high:.1f}" if each.interval else "-",
                f"{tally.correct} of {tally.total}" if tally else "-",
                *(told.get(rule, "-") for rule in rules),
                *({judged.label: judged.told for judged in each.judged}.get(judge, "-") for judge in judges),
                share(each.recall.overall.recall if each.recall else None),
                f"{each.failed}{missing}" if each.accuracy else "-",
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    """A bar would begin another cell."""
    return " ".join(text.replace("|", "\\|").split())
