"""Grades of free answers: a column for each judge, which no other figure is mixed with.

The denominator is all questions without options. One whose answer failed or is missing has the lowest score, and so has
one without a verdict, which is no verdict on the answer: how many these are is said beside the figure, and what it
would be at most if all of them were graded best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from pipeline.artefacts.grades import Calibration, GradedBy, graded_digest, is_graded, judge_files, read_judge
from pipeline.artefacts.rows import AnswerRow, GradeRow
from pipeline.artefacts.stored import StoredRows
from pipeline.benchmarks.agreement import weighted_kappa
from pipeline.benchmarks.intervals import Interval
from pipeline.benchmarks.metrics import MISSING, Accuracy, Credit
from pipeline.domain import Cost, Question, Status
from pipeline.errors import InputError
from pipeline.reports.results import share
from pipeline.terminal import remark, styled

WITHOUT_VERDICT = (Status.JUDGE_FAILED, Status.UNREADABLE_VERDICT, Status.NOT_JUDGED)


class GradeBrief(NamedTuple):
    """What a report needs of a grade without its replies."""

    score: float | None
    status: Status
    model: str
    cost: Cost
    votes: tuple[float, ...]
    is_judged: bool
    """The judge said it; an answer that failed is wrong without."""


@dataclass(frozen=True)
class RunGrades:
    """What one judge made of the answers of a run."""

    by: GradedBy
    rows: StoredRows[GradeRow]
    briefs: Mapping[str, GradeBrief] = field(repr=False)
    """By question. The grade of an answer that is another one by now is left out."""

    def within(self, ids: Collection[str]) -> RunGrades:
        """The grades of these questions alone."""
        briefs = {id_: brief for id_, brief in self.briefs.items() if id_ in ids}
        return RunGrades(self.by, self.rows.within(ids), briefs)


def read_grades(folder: Path, asked: Mapping[str, Question], answers: Sequence[AnswerRow]) -> tuple[RunGrades, ...]:
    """The grades in a run folder, judge by judge.

    Args:
        folder: of the run.
        asked: its questions by id.
        answers: all of its answers.

    A judge whose files cannot be used is left out and named on standard error.
    """
    files = judge_files(folder)
    if not files:
        return ()
    current = {row.question.id: graded_digest(row.question, row.answer) for row in answers if is_graded(row.question)}
    found = []
    for path in files:
        try:
            by = read_judge(path)
            if by.rows(folder).is_file():
                rows, noted = StoredRows.noted(GradeRow, by.rows(folder), asked, lambda row: (row.of, _brief(row)))
                briefs = {id_: brief for id_, (of, brief) in noted.items() if current.get(id_) == of}
                found.append(RunGrades(by, rows, briefs))
        except InputError as error:
            remark(f"left out: {error.problem}")
    return tuple(found)


def _brief(row: GradeRow) -> GradeBrief:
    said = row.grade
    is_judged = said.status is Status.OK and not said.detail
    return GradeBrief(said.score, said.status, said.model, said.cost, said.votes, is_judged)


@dataclass(frozen=True)
class JudgedScore:
    """The figure of one judge over one run."""

    by: GradedBy
    label: str
    """The column's name, which distinguishes it from the others on a page."""
    credits: Accuracy
    """Of all free questions, as shares of the way from the lowest score to the highest."""
    briefs: Mapping[str, GradeBrief]

    @cached_property
    def figure(self) -> float | None:
        """On the judge's scale; None where no answer is in free text."""
        return self._scaled(self._figure(self.credits))

    @cached_property
    def at_most(self) -> float | None:
        """The figure if every answer without a verdict were graded best."""
        best = [
            Credit(each.question, each.status, 1.0 if each.status in WITHOUT_VERDICT else each.value)
            for each in self.credits.credits
        ]
        return self._scaled(self._figure(Accuracy(tuple(best))))

    @cached_property
    def interval(self) -> Interval | None:
        """The figure's, clustered by video, on the judge's scale."""
        label = self.by.mean_over
        found = self.credits.mean_interval(label) if label and self._is_mean else self.credits.interval()
        return found and Interval(self._end(found.low), self._end(found.high), found.videos, found.method)

    @property
    def total(self) -> int:
        """Questions that are counted."""
        return self.credits.overall.total

    @cached_property
    def best(self) -> int:
        """Answers with the highest score: right ones, where a judge only says right or wrong."""
        return sum(each.value == 1.0 and each.status == Status.OK for each in self.credits.credits)

    @cached_property
    def without_verdict(self) -> Mapping[str, int]:
        """Answers without a verdict, by status."""
        found = Counter(each.status for each in self.credits.credits)
        return {status.value: found[status.value] for status in WITHOUT_VERDICT if found[status.value]}

    @property
    def missing(self) -> int:
        """Questions without an answer."""
        return self.credits.unanswered

    @cached_property
    def models(self) -> tuple[str, ...]:
        """What the server said that it ran."""
        return tuple(dict.fromkeys(brief.model for brief in self.briefs.values() if brief.model))

    @cached_property
    def repeats(self) -> float | None:
        """Mean kappa of each two of the times that a judge was asked; None where it was asked once."""
        votes = [brief.votes for brief in self.briefs.values() if len(brief.votes) > 1]
        if not votes or len({len(each) for each in votes}) > 1:
            return None
        times = list(zip(*votes, strict=True))
        pairs = [weighted_kappa(one, other) for place, one in enumerate(times) for other in times[place + 1 :]]
        known = [kappa for kappa in pairs if kappa is not None]
        return sum(known) / len(known) if known else None

    @property
    def told(self) -> str:
        """The figure in words."""
        return self._told(self.figure)

    @property
    def interval_told(self) -> str:
        """Its interval in words; empty where there is none."""
        return f"{self._told(self.interval.low)} to {self._told(self.interval.high)}" if self.interval else ""

    @property
    def told_at_most(self) -> str:
        """Its upper end in words; empty where every answer has a verdict."""
        return self._told(self.at_most) if self.without_verdict else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What readers should know."""
        ran = f"the server ran {', '.join(self.models)}" if self.models else ""
        mean = f"a mean over {self.by.mean_over}" if self._is_mean else ""
        scale = "" if self._is_binary else f"on a scale of {self.by.lowest:g} to {self.by.highest:g}"
        repeats = f"repeats agree by kappa {self.repeats:.2f}" if self.repeats is not None else ""
        return tuple(filter(None, (scale, mean, ran, repeats, calibration_words(self.by.calibration), *self.by.notes)))

    @property
    def _is_binary(self) -> bool:
        return (self.by.lowest, self.by.highest) == (0.0, 1.0)

    @property
    def _is_mean(self) -> bool:
        label = self.by.mean_over
        return label is not None and label in self.credits.groups

    def _figure(self, credits: Accuracy) -> float | None:
        label = self.by.mean_over
        return credits.mean_over(label) if label is not None and self._is_mean else credits.overall.accuracy

    def _end(self, of_scale: float) -> float:
        return self.by.lowest + of_scale * (self.by.highest - self.by.lowest)

    def _scaled(self, of_scale: float | None) -> float | None:
        return None if of_scale is None else self._end(of_scale)

    def _told(self, value: float | None) -> str:
        return share(value) if self._is_binary or value is None else f"{value:.2f}"


def judged_scores(
    questions: Sequence[Question], answered: Mapping[str, object], grades: Sequence[RunGrades]
) -> tuple[JudgedScore, ...]:
    """The figure of each judge.

    Args:
        questions: of the run.
        answered: by question, whatever its answer is; without an entry there is none.
        grades: of the run.
    """
    free = [question for question in questions if is_graded(question)]
    return tuple(
        JudgedScore(each.by, label, Accuracy(tuple(_credits(free, answered, each))), each.briefs)
        for label, each in labelled(grades).items()
    )


def labelled(grades: Sequence[RunGrades]) -> dict[str, RunGrades]:
    """The grades by the names of their columns: with a digest where one judge has graded by several settings."""
    same = Counter(each.by.label for each in grades)
    return {
        each.by.label if same[each.by.label] == 1 else f"{each.by.label} ({each.by.stem.rpartition('-')[2]})": each
        for each in grades
    }


def _credits(free: Sequence[Question], answered: Mapping[str, object], grades: RunGrades) -> Iterator[Credit]:
    by = grades.by
    for question in free:
        brief = grades.briefs.get(question.id)
        if question.id not in answered:
            yield Credit(question, MISSING, 0.0)
        elif brief is None:
            yield Credit(question, Status.NOT_JUDGED.value, 0.0)
        elif brief.status is not Status.OK:
            yield Credit(question, brief.status.value, 0.0)
        elif brief.score is None or not by.lowest <= brief.score <= by.highest:
            yield Credit(question, Status.UNREADABLE_VERDICT.value, 0.0)  # no judge of ours writes such a row
        else:
            yield Credit(question, Status.OK.value, (brief.score - by.lowest) / (by.highest - by.lowest))


def agreement(first: JudgedScore, second: JudgedScore) -> tuple[float | None, int]:
    """Kappa of two judges over the answers that both have judged, as shares of their scales; and how many these are."""
    one, other = (
        {
            each.question.id: each.value or 0.0
            for each in of.credits.credits
            if each.question.id in of.briefs and of.briefs[each.question.id].is_judged
        }
        for of in (first, second)
    )
    both = [id_ for id_ in one if id_ in other]
    return weighted_kappa([one[id_] for id_ in both], [other[id_] for id_ in both]), len(both)


def agreement_words(scores: Sequence[JudgedScore], of: str | None = None) -> list[str]:
    """How far each two judges of one run agree, in a line each.

    Args:
        scores: of the run.
        of: the file stem of a judge, whose agreement with each other one is told; None: that of all.
    """
    found = []
    for first, second in combinations(scores, 2):
        kappa, both = agreement(first, second)
        if both and (of is None or of in (first.by.stem, second.by.stem)):
            told = "nothing, as all have one grade" if kappa is None else f"{kappa:.2f}"
            found.append(f"{first.label} and {second.label}, kappa over {both} answers: {told}")
    return found


def note_lines(named: Sequence[tuple[str, JudgedScore]]) -> list[str]:
    """The notes on each column in one line, with the names of the runs where these differ in them."""
    of: dict[str, dict[str, list[str]]] = {}
    for name, each in named:
        if each.notes:
            of.setdefault(each.label, {}).setdefault("; ".join(each.notes), []).append(name)
    return [
        f"{label}{_within(names) if len(found) > 1 else ''}: {notes}"
        for label, found in of.items()
        for notes, names in found.items()
    ]


def _within(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})"


def calibration_words(found: Calibration | None) -> str:
    """Its rates, of which the first should be 100 % and the others 0 %; empty where the judge is not calibrated."""
    if found is None:
        return ""
    failed = f", {found.failed} without a grade" if found.failed else ""
    return (
        f"calibrated on {found.questions} questions: references {share(found.gold)}, references of other questions "
        f"{share(found.shuffled)}, undecided answers {share(found.listed)}{failed}"
    )


def judged_table(named: Sequence[tuple[str, JudgedScore]]) -> Table:
    """One line for each judge of each run, which is named where there are several."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    several = len({name for name, _ in named}) > 1
    for heading in (*(("run",) if several else ()), "judge"):
        table.add_column(heading, overflow="fold")
    for heading in ("figure", "95 %", "best", "no verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, each in named:
        without = sum(each.without_verdict.values())
        table.add_row(
            *((styled(name),) if several else ()),
            styled(each.label),
            styled(each.told),
            styled(each.interval_told or "-"),
            styled(f"{each.best} of {each.total}"),
            styled(str(without)),
        )
    return table
