"""Two runs over the same questions, side by side.

Accuracies of two runs move together, since hard questions are hard for both; their intervals may overlap although one
run is clearly better. What counts is what changed: the difference question by question with an interval clustered by
video, and the exact McNemar test of the questions that flipped, as statsmodels has it. McNemar's test takes questions
for independent, which those of one video are not: where the two disagree, believe the interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.artefacts.rows import AnswerRow
from pipeline.benchmarks.intervals import Interval, difference_interval
from pipeline.benchmarks.metrics import Accuracy, accuracy
from pipeline.domain import Question
from pipeline.errors import InputError


@dataclass(frozen=True)
class Comparison:
    """The second run against the first, counted strictly, over the questions that have a known right option."""

    first: Accuracy
    second: Accuracy
    difference: float | None
    """Accuracy of the second run minus that of the first, in -1..1; None if no question can be counted."""
    interval: Interval | None
    """Interval of the difference; None if it cannot be estimated: one video, or no question that differs."""
    p_value: float | None
    """Exact McNemar test that flips go either way equally often; None if no question can be counted."""
    gained: tuple[Question, ...]
    """Right only in the second run."""
    lost: tuple[Question, ...]
    """Right only in the first run."""
    both_right: int
    both_wrong: int

    @property
    def questions(self) -> int:
        """How many are compared."""
        return len(self.gained) + len(self.lost) + self.both_right + self.both_wrong

    @property
    def is_shown(self) -> bool:
        """Whether the interval of the difference excludes zero."""
        return self.interval is not None and not self.interval.low <= 0 <= self.interval.high


@dataclass(frozen=True)
class Difference:
    """A :class:`Comparison` in one group of questions."""

    questions: int
    first: float
    second: float
    difference: float
    interval: Interval | None


def compare(first: Iterable[AnswerRow], second: Iterable[AnswerRow], questions: Sequence[Question]) -> Comparison:
    """Compare the answers of two runs to ``questions``; answers to other questions are passed over.

    :func:`same_questions` or :func:`common_questions` gives the questions.

    Raises:
        InputError: the answers of a run are of several pipelines, or to a question of another text.
    """
    asked = {question.id for question in questions}
    one, other = (accuracy((row for row in rows if row.question.id in asked), questions) for rows in (first, second))
    return compare_counts(one, other)


def compare_counts(one: Accuracy, other: Accuracy) -> Comparison:
    """As :func:`compare`, of two runs over the same questions that are counted already, strictly."""
    after_of = {credit.question.id: credit for credit in other.credits}
    pairs = [
        (before.question, before.value == 1, after_of[before.question.id].value == 1)
        for before in one.credits
        if before.value is not None
    ]
    gained = tuple(question for question, before, after in pairs if after and not before)
    lost = tuple(question for question, before, after in pairs if before and not after)
    both = sum(before and after for _, before, after in pairs)
    neither = len(pairs) - both - len(gained) - len(lost)
    return Comparison(
        first=one,
        second=other,
        difference=(len(gained) - len(lost)) / len(pairs) if pairs else None,
        interval=_interval(pairs),
        p_value=_mcnemar(both, len(lost), len(gained), neither) if pairs else None,
        gained=gained,
        lost=lost,
        both_right=both,
        both_wrong=neither,
    )


def by_group(comparison: Comparison, label: str) -> dict[str, Difference]:
    """The same by the values of ``label``, in the order in which the questions bring them."""
    pairs: dict[str, list[tuple[Question, bool, bool]]] = {}
    for before, after in zip(comparison.first.credits, comparison.second.credits, strict=True):
        value = before.question.groups.get(label)
        if before.value is not None and value is not None:
            pairs.setdefault(value, []).append((before.question, before.value == 1, after.value == 1))
    return {value: _difference(found) for value, found in pairs.items()}


def same_questions(first: Sequence[Question], second: Sequence[Question]) -> tuple[Question, ...]:
    """The questions of both runs, which must be the same.

    Raises:
        InputError: they are not; the message says how many are in each and in both.
    """
    shared = common_questions(first, second)
    if len(shared) < max(len(first), len(second)):
        raise InputError(
            f"the runs answer different questions: {len(first)} in the first, {len(second)} in the second,"
            f" {len(shared)} in both",
            "compare over those in both with questions=common, or name runs over the same benchmark and limit",
        )
    return shared


def common_questions(first: Sequence[Question], second: Sequence[Question]) -> tuple[Question, ...]:
    """The questions that are in both runs, as the first has them; paths of videos may differ.

    Raises:
        InputError: there is none, or two different questions have one id.
    """
    theirs = {question.id: question for question in second}
    shared = tuple(question for question in first if question.id in theirs)
    for question in shared:
        if _content(question) != _content(theirs[question.id]):
            raise InputError(
                f"the question {question.id!r} is another one in the second run: text, options or right answer differ",
                "compare runs over the same annotations of a benchmark",
            )
    if not shared:
        raise InputError(
            f"the runs have no question in common: {len(first)} in the first, {len(second)} in the second",
            "compare runs over the same benchmark",
        )
    return shared


def _content(question: Question) -> tuple[str, tuple[str, ...] | None, int | None]:
    return question.text, question.options, question.correct


def _interval(pairs: Sequence[tuple[Question, bool, bool]]) -> Interval | None:
    differences = [float(after) - float(before) for _, before, after in pairs]
    return difference_interval(differences, [question.video for question, _, _ in pairs])


def _difference(pairs: Sequence[tuple[Question, bool, bool]]) -> Difference:
    before = sum(right for _, right, _ in pairs) / len(pairs)
    after = sum(right for _, _, right in pairs) / len(pairs)
    return Difference(len(pairs), before, after, after - before, _interval(pairs))


def _mcnemar(both: int, lost: int, gained: int, neither: int) -> float:
    from statsmodels.stats.contingency_tables import mcnemar

    # With no flip at all the binomial has no trials, and nothing speaks for a difference.
    return min(1.0, float(mcnemar([[both, lost], [gained, neither]], exact=True).pvalue)) if lost + gained else 1.0
