"""What a page finds, in its heading: the answer of ``gens ask``, or how runs over the same questions compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.benchmarks.comparison import Comparison, compare_counts
from pipeline.benchmarks.intervals import Interval
from pipeline.domain import Question, Status, option_letter
from pipeline.reports.cards import run_labels
from pipeline.reports.question_sets import QuestionSet
from pipeline.reports.results import share
from pipeline.reports.runs import RunArtefacts
from pipeline.reports.scoreboard import RunScore

_BASELINE = "uniform"
"""The sampler against which others are compared."""
_LONG_ANSWER = 200
"""Characters of an answer in a heading."""
_COMMIT = 12
"""Characters of a commit."""
_MOST_NAMED = 3
"""Values that differ between runs and are named one by one."""


@dataclass(frozen=True)
class Headline:
    """What stands at the top of a page."""

    title: str
    asked: str
    """The question, where the title is its answer; else empty."""
    findings: tuple[str, ...]
    """Of further sets of questions."""
    facts: tuple[str, ...]
    """Where, when and with what the runs were made, as far as it is known."""


def headline(runs: Sequence[RunArtefacts], sets: Sequence[QuestionSet]) -> Headline:
    """The headline of all runs on a page; the title is what the largest set of questions shows."""
    if len(runs) == 1 and runs[0].is_ask and len(runs[0].questions) == 1:
        (run,) = runs
        (question,) = run.questions
        made = " → ".join(filter(None, (run.sampler, run.answerer)))
        return Headline(_answer(run, question), question.text, (), (made, *facts_of(runs, [])))
    if all(run.is_ask for run in runs):
        return Headline(f"{len(sets)} question{'' if len(sets) == 1 else 's'} asked", "", (), tuple(facts_of(runs, [])))
    ordered = sorted(sets, key=lambda each: -each.questions)
    first, *others = (finding(each) for each in ordered)
    benchmarks = [each.benchmark for each in ordered if each.benchmark]
    return Headline(first, "", tuple(others), tuple(facts_of(runs, benchmarks)))


def finding(found: QuestionSet) -> str:
    """What the runs over one set of questions show, in one sentence without a full stop.

    Two runs are compared with each other; of more, the most accurate one that has a run with uniform frames beside it:
    of the same answerer, with as many frames. Unfinished runs are not compared, since missing answers count as wrong.
    """
    finished = [each for each in found.scores if each.accuracy and not each.run.missing]
    counted = [each for each in finished if each.accuracy and each.accuracy.overall.total]
    if not counted:
        return _without_figures(found, finished)
    total = _total(counted[0])
    where = f"{f' on {found.benchmark}' if found.benchmark else ''}, {total} question{'' if total == 1 else 's'}"
    if len(counted) == 1:
        return f"{_made(counted[0])} answers {_share(counted[0])} right{where}"
    if len(counted) == 2:
        return f"{_pair_words(*counted)}{where}"
    pairs = [(base, each) for each in counted if (base := _baseline(each, counted))]
    if not pairs:
        best = max(counted, key=_accuracy)
        return f"{_made(best)} answers {_share(best)} right, the most of {len(counted)} runs{where}"
    base, best = max(pairs, key=lambda pair: _accuracy(pair[1]))
    frames = f" at {best.run.budget} frames" if best.run.budget else ""
    answerers = {each.run.answerer for each in counted}
    answering = f" with {best.run.answerer}" if len(answerers) > 1 else ""
    several = f"; the best of {len(pairs)} comparisons with {_BASELINE}" if len(pairs) > 1 else ""
    return f"{_pair_words(base, best)}{frames}{answering}{where}{several}"


def comparison_words(compared: Comparison, first: str, second: str) -> str:
    """``gens_3b beats uniform by 4.3 points (1.2 to 7.4)``; without a difference that is shown, it says so."""
    if compared.difference is None:
        return f"{second} and {first} cannot be compared"
    gap, interval = compared.difference, compared.interval
    if compared.is_shown and gap < 0:
        first, second, gap = second, first, -gap
        interval = interval and Interval(-interval.high, -interval.low, interval.videos, interval.method)
    ends = f" ({_points(interval.low)} to {_points(interval.high)})" if interval else ""
    if compared.is_shown:
        return f"{second} beats {first} by {_points(gap)} points{ends}"
    return f"No difference shown between {second} and {first}: {_points(gap)} points{ends}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}".replace("-0.0", "0.0")


def _pair_words(first: RunScore, second: RunScore) -> str:
    names = _names(first, second)
    if first.accuracy is None or second.accuracy is None:
        return f"{names[1]} and {names[0]} cannot be compared"
    return comparison_words(compare_counts(first.accuracy, second.accuracy), *names)


def _baseline(of: RunScore, scores: Sequence[RunScore]) -> RunScore | None:
    """The run with uniform frames beside ``of``."""
    if of.run.sampler == _BASELINE:
        return None
    alike = (of.run.answerer, of.run.budget)
    return next(
        (each for each in scores if each.run.sampler == _BASELINE and (each.run.answerer, each.run.budget) == alike),
        None,
    )


def _names(first: RunScore, second: RunScore) -> tuple[str, str]:
    """The runs by what differs alone, if that is the sampler or the answerer."""
    one, other = first.run, second.run
    if (one.answerer, one.budget) == (other.answerer, other.budget) and one.sampler != other.sampler:
        return one.sampler, other.sampler
    is_same_stage = (one.sampler, one.selection, one.budget) == (other.sampler, other.selection, other.budget)
    if is_same_stage and one.answerer != other.answerer:
        return one.answerer, other.answerer
    labels = run_labels((one, other))
    return labels[one.name], labels[other.name]


def _made(of: RunScore) -> str:
    return " → ".join(filter(None, (of.run.sampler, of.run.answerer)))


def _accuracy(of: RunScore) -> float:
    return (of.accuracy.overall.accuracy if of.accuracy else None) or 0.0


def _total(of: RunScore) -> int:
    return of.accuracy.overall.total if of.accuracy else 0


def _share(of: RunScore) -> str:
    ends = of.interval
    return f"{100 * _accuracy(of):.1f} %" + (f" ({100 * ends.low:.1f} to {100 * ends.high:.1f})" if ends else "")


def _without_figures(found: QuestionSet, finished: Sequence[RunScore]) -> str:
    runs = f"{len(found.scores)} run{'' if len(found.scores) == 1 else 's'}"
    grounded = [each for each in finished if each.grounding and each.grounding[0].mean is not None]
    if grounded:
        best = max(grounded, key=lambda each: each.grounding[0].mean or 0.0)
        own, most = best.grounding[0], f", the most of {len(grounded)} runs" if len(grounded) > 1 else ""
        return f"{_made(best)} names intervals with a mIoU of {share(own.mean)}{most} on {found.name}"
    if finished:
        return _of_judges(found, finished) or f"{runs} on {found.name}, of which no right option is known"
    if all(not each.run.answerer for each in found.scores):
        return f"Frames selected by {runs} on {found.name}"
    return f"{runs} on {found.name}, not finished"


def _of_judges(found: QuestionSet, finished: Sequence[RunScore]) -> str:
    """Words on free answers; empty where none has a reference or a grade. Figures of two judges are not compared."""
    runs = f"{len(found.scores)} run{'' if len(found.scores) == 1 else 's'}"
    judged = [(each, judge) for each in finished for judge in each.judged if judge.figure is not None]
    labels = {judge.label for _, judge in judged}
    if len(labels) > 1:
        return f"{runs} on {found.name}, graded by {len(labels)} judges"
    if judged:
        best, judge = max(judged, key=lambda pair: pair[1].figure or 0.0)
        most = f", the most of {len(judged)} runs" if len(judged) > 1 else ""
        return f"{_made(best)} gets {judge.told} from the judge {judge.label}{most} on {found.name}"
    if any(question.reference for each in finished for question in each.run.questions):
        return f"{runs} on {found.name}, free answers that no judge has graded"
    return ""


def _answer(run: RunArtefacts, question: Question) -> str:
    """The answer as the terminal gives it."""
    row = next(iter(run.answers), None)
    if row is None:
        return "No answer yet" if run.answerer else "Frames selected"
    said = row.answer
    if said.status is not Status.OK:
        return f"No answer: {said.status.value.replace('_', ' ')}"
    if question.options is not None and said.option is not None:
        return f"{option_letter(said.option)}. {question.options[said.option]}"
    text = " ".join(said.text.split())
    return text if len(text) <= _LONG_ANSWER else f"{text[:_LONG_ANSWER]} ..."


def facts_of(runs: Sequence[RunArtefacts], benchmarks: Sequence[str]) -> list[str]:
    """Benchmark, days, commit and GPU of the runs, as far as they are known."""
    days = sorted({run.day for run in runs if run.day})
    commits = [_short(run.versions["commit"]) for run in runs if "commit" in run.versions]
    found = [
        _named(benchmarks, "benchmarks"),
        " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "",
        _named(commits, "commits", "commit "),
        _named([run.versions["gpu"] for run in runs if "gpu" in run.versions], "kinds of GPU"),
    ]
    return [fact for fact in found if fact]


def _short(commit: str) -> str:
    """With the mark of changed files, if there is one."""
    number, dash, mark = commit.partition("-")
    return f"{number[:_COMMIT]}{dash}{mark}"


def _named(values: Sequence[str], several: str, before: str = "") -> str:
    distinct = list(dict.fromkeys(values))
    if len(distinct) > _MOST_NAMED:
        return f"{len(distinct)} {several}"
    return before + ", ".join(distinct) if distinct else ""
