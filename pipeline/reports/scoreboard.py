"""The figures of a report: the scores of each run, and a table of sampler x answerer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.benchmarks.grounding import (
    Grounding,
    IntervalCredit,
    IntervalRule,
    interval_rules_for,
    missing_credit,
)
from pipeline.benchmarks.grouped import GroupScores, score_groups
from pipeline.benchmarks.intervals import Interval
from pipeline.benchmarks.metrics import (
    MISSING,
    Accuracy,
    Credit,
    EvidenceRecall,
    Tally,
    check_makers,
    mean_recall,
    strict_credit,
)
from pipeline.benchmarks.official import OfficialRule, official_value, rules_for
from pipeline.domain import AnswerForm, Question, Status
from pipeline.reports.briefs import RECALL_TOLERANCE, AnswerBrief
from pipeline.reports.judged import JudgedScore, judged_scores
from pipeline.reports.policies import policy_words
from pipeline.reports.runs import RunArtefacts


@dataclass(frozen=True)
class OfficialScore:
    """A run's answers scored by another project's rule."""

    rule: OfficialRule
    accuracy: Accuracy

    @cached_property
    def groups(self) -> GroupScores | None:
        """The scores of groups of questions; None for a rule that counts questions one by one."""
        unread = self.rule.unread_in_group
        return None if unread is None else score_groups(self.accuracy.credits, unread)

    @cached_property
    def figure(self) -> float | None:
        """The number that the rule's owner would print, 0..1; None where nothing counts."""
        if self.groups is not None:
            return self.groups.mean
        label = self.rule.mean_over
        return self.accuracy.mean_over(label) if label else self.accuracy.overall.accuracy

    @cached_property
    def interval(self) -> Interval | None:
        """The figure's, clustered by video."""
        if self.groups is not None:
            return self.groups.interval()
        label = self.rule.mean_over
        return self.accuracy.mean_interval(label) if label else self.accuracy.interval()


@dataclass(frozen=True)
class RunScore:
    """The scores of one run."""

    run: RunArtefacts
    accuracy: Accuracy | None
    """None if the run has no answers."""
    recall: EvidenceRecall | None
    """None if the run has no selections, or no question has evidence."""
    when_shown: Tally
    """Right answers among the questions of which every evidence span is in the selection."""
    when_missed: Tally
    """Right answers among the questions of which at least one evidence span is not."""
    frames: Mapping[int, int]
    """The number of questions by the number of selected frames, ascending."""
    official: tuple[OfficialScore, ...] = ()
    """The same answers by other projects' rules; empty for a benchmark without any."""
    grounding: tuple[Grounding, ...] = ()
    """The answers that are intervals of the video, by our rule and by those of others; empty where none is asked."""
    judged: tuple[JudgedScore, ...] = ()
    """The free answers by judges, which count in no other figure."""

    @property
    def questions(self) -> int:
        """How many were asked."""
        return len(self.run.questions)

    @cached_property
    def interval(self) -> Interval | None:
        """The accuracy's, clustered by video; None where that cannot be estimated."""
        return self.accuracy.interval() if self.accuracy else None

    @cached_property
    def failures(self) -> Mapping[str, int]:
        """Answers that ended in a failure, by status; the most frequent first."""
        statuses = self.accuracy.statuses if self.accuracy else {}
        return {status: count for status, count in statuses.items() if status not in (Status.OK, MISSING)}

    @property
    def failed(self) -> int:
        """Answers that ended in a failure."""
        return sum(self.failures.values())

    @property
    def unanswered(self) -> int:
        """Questions without a row."""
        return self.accuracy.unanswered if self.accuracy else 0


@dataclass(frozen=True)
class ScoreboardRow:
    """One first stage with all the answerers that took its selections."""

    sampler: str
    selection: str
    """The policy in words."""
    budget: int | None
    """Frames a question may have at most."""
    run: str
    """Set where sampler, selection and budget do not tell two rows apart."""
    questions: int
    recall: EvidenceRecall | None
    cells: tuple[RunScore | None, ...]
    """Parallel to the board's answerers."""


@dataclass(frozen=True)
class Scoreboard:
    """Sampler x budget x answerer, the budgets of a sampler ascending."""

    answerers: tuple[str, ...]
    rows: tuple[ScoreboardRow, ...]

    @property
    def best(self) -> float | None:
        """The highest accuracy, where there is something to choose between."""
        cells = [cell for row in self.rows for cell in row.cells]
        shares = [cell.accuracy.overall.accuracy for cell in cells if cell and cell.accuracy]
        found = {share for share in shares if share is not None}
        return max(found) if len(found) > 1 else None


def score(run: RunArtefacts) -> RunScore:
    """Count one run.

    Raises:
        InputError: the run's answers are of several pipelines.
    """
    briefs = run.briefs
    check_makers(briefs.makers)
    selections = {id_: brief.selection for id_, brief in briefs.of.items() if brief.selection}
    recalls = {id_: chosen.recall for id_, chosen in selections.items() if chosen.recall is not None}
    recall = mean_recall(recalls, run.questions, RECALL_TOLERANCE) if selections else None
    shown, missed = _by_evidence(run)
    return RunScore(
        run=run,
        accuracy=Accuracy(tuple(_strict(run))) if run.answers else None,
        recall=recall if recall and recall.overall.questions else None,
        when_shown=shown,
        when_missed=missed,
        frames=dict(sorted(Counter(chosen.frames for chosen in selections.values()).items())),
        official=tuple(
            OfficialScore(rule, Accuracy(tuple(_official(run, place, rule))))
            for place, rule in enumerate(rules_for(run.benchmark) if run.answers else ())
        ),
        grounding=_grounding(run),
        judged=judged_scores(run.questions, {id_: 1 for id_, each in briefs.of.items() if each.answer}, run.grades),
    )


def _answers(run: RunArtefacts) -> Iterator[tuple[Question, AnswerBrief | None]]:
    briefs = run.briefs.of
    for question in run.questions:
        brief = briefs.get(question.id)
        yield question, brief and brief.answer


def _strict(run: RunArtefacts) -> Iterator[Credit]:
    for question, answer in _answers(run):
        yield strict_credit(question, *((answer.status, answer.option) if answer else (None, None)))


def _official(run: RunArtefacts, place: int, rule: OfficialRule) -> Iterator[Credit]:
    """``place`` of the rule among those of the benchmark."""
    for question, answer in _answers(run):
        if answer is None:
            yield Credit(question, MISSING, official_value(question, None, rule))
        else:
            yield Credit(question, answer.status.value, answer.official[place])


def _grounding(run: RunArtefacts) -> tuple[Grounding, ...]:
    if not run.answers or all(question.answer_form is AnswerForm.WORDS for question in run.questions):
        return ()
    rules = interval_rules_for(run.benchmark)
    return tuple(Grounding(rule, tuple(_interval_credits(run, place, rule))) for place, rule in enumerate(rules))


def _interval_credits(run: RunArtefacts, place: int, rule: IntervalRule) -> Iterator[IntervalCredit]:
    """``place`` of the rule among those of the benchmark."""
    for question, answer in _answers(run):
        if question.answer_form is AnswerForm.INTERVALS:
            if answer is None or not answer.ious:
                yield missing_credit(question, rule)
            else:
                yield IntervalCredit(question, answer.status.value, answer.ious[place])


def make_scoreboard(scores: Sequence[RunScore]) -> Scoreboard:
    """Arrange the runs over one set of questions in rows; those with the same first stage share one."""
    answerers = tuple(dict.fromkeys(each.run.answerer for each in scores if each.run.answerer))
    rows: list[tuple[tuple[Any, ...], dict[str, RunScore]]] = []
    for each in scores:
        key = (*_first_stage(each), each.recall and each.recall.overall)
        cells = next((cells for known, cells in rows if known == key and each.run.answerer not in cells), None)
        if cells is None:
            cells = {}
            rows.append((key, cells))
        cells[each.run.answerer] = each
    named = Counter(key[:3] for key, _ in rows)
    samplers = list(dict.fromkeys(key[:2] for key, _ in rows))
    rows.sort(key=lambda row: (samplers.index(row[0][:2]), row[0][2] or 0))
    return Scoreboard(answerers, tuple(_row(cells, answerers, named) for _, cells in rows))


def _first_stage(of: RunScore) -> tuple[str, str, int | None]:
    return of.run.sampler, of.run.selection, of.run.budget


def _row(
    cells: Mapping[str, RunScore], answerers: Sequence[str], named: Mapping[tuple[object, ...], int]
) -> ScoreboardRow:
    first = next(iter(cells.values()))
    run = first.run
    return ScoreboardRow(
        sampler=run.sampler,
        selection=policy_words(run),
        budget=run.budget,
        run=", ".join(cell.run.name for cell in cells.values()) if named[_first_stage(first)] > 1 else "",
        questions=first.questions,
        recall=first.recall,
        cells=tuple(cells.get(answerer) for answerer in answerers),
    )


def _by_evidence(run: RunArtefacts) -> tuple[Tally, Tally]:
    right: dict[bool, list[bool]] = {True: [], False: []}
    for question in run.questions:
        brief = run.briefs.of.get(question.id)
        if brief is None or brief.selection is None or brief.answer is None or question.correct is None:
            continue
        if brief.selection.recall is not None:
            is_right = brief.answer.status is Status.OK and brief.answer.option == question.correct
            right[brief.selection.recall == 1.0].append(is_right)
    return Tally(sum(right[True]), len(right[True])), Tally(sum(right[False]), len(right[False]))
