"""Counts answers and selections.

The denominator is the questions that were asked, not the rows that came back: a missing, failed or unparsed answer is a
wrong one. (The released scripts of Video-MME and LVBench leave unparsable answers out, and LongVideoBench's draws a
random option for them; each of these makes a model that fails often look better. :mod:`pipeline.benchmarks.official`
counts as they do, to stand beside this.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from pipeline.artefacts.rows import AnswerRow
from pipeline.benchmarks.intervals import Interval, share_interval
from pipeline.domain import Question, Span, Status
from pipeline.errors import InputError

T = TypeVar("T")

MISSING = "missing"
"""Counted in addition to the statuses: the question was asked and has no row."""

_ROUNDING = 1e-9
"""Seconds. Keeps a frame that lies exactly at the tolerance inside it, whatever the last bit of the subtraction."""


@dataclass(frozen=True)
class Tally:
    """A number of right answers out of a total."""

    correct: float
    """A whole number, unless a rule counts a draw by its expected value."""
    total: int

    @property
    def accuracy(self) -> float | None:
        """Share in 0..1; None where nothing was counted."""
        return self.correct / self.total if self.total else None


@dataclass(frozen=True, slots=True)
class Credit:
    """One question and what its answer is worth."""

    question: Question
    status: str
    """The answer's, or ``missing``."""
    value: float | None
    """1 right, 0 wrong; between them where the rule draws an option; None where it does not count the question."""


@dataclass(frozen=True)
class Accuracy:
    """The answers of one sampler and answerer, counted by one rule."""

    credits: tuple[Credit, ...]
    """One a question, in the order in which they were asked."""

    @cached_property
    def overall(self) -> Tally:
        """All questions that count, pooled."""
        return _tally([credit.value for credit in self.credits if credit.value is not None])

    @cached_property
    def groups(self) -> Mapping[str, Mapping[str, Tally]]:
        """Label (``duration_group``), then its value (``600``); both in the order in which the questions bring them."""
        found: dict[str, dict[str, list[float]]] = {}
        for credit in self.credits:
            if credit.value is not None:
                _add_to_groups(found, credit.question, credit.value)
        return {label: {value: _tally(seen) for value, seen in values.items()} for label, values in found.items()}

    @cached_property
    def statuses(self) -> Mapping[str, int]:
        """How many of all questions ended in each status, ``missing`` included; the most frequent first."""
        return dict(Counter(credit.status for credit in self.credits).most_common())

    @property
    def not_counted(self) -> int:
        """Questions without a known right option, which no accuracy can count."""
        return sum(credit.question.correct is None for credit in self.credits)

    @property
    def left_out(self) -> int:
        """Questions with a known right option that the rule keeps out of the denominator all the same."""
        return sum(credit.value is None and credit.question.correct is not None for credit in self.credits)

    @property
    def unanswered(self) -> int:
        """Questions without a row."""
        return self.statuses.get(MISSING, 0)

    @property
    def drawn(self) -> int:
        """Answers for which the rule draws an option, counted by the draw's expected value."""
        return sum(credit.value is not None and 0 < credit.value < 1 for credit in self.credits)

    def mean_over(self, label: str) -> float | None:
        """The mean of the accuracies of the label's values, each weighing alike (MLVU's M-Avg: over its tasks)."""
        shares = [tally.accuracy for tally in self.groups.get(label, {}).values() if tally.accuracy is not None]
        return sum(shares) / len(shares) if shares else None

    def interval(self, label: str | None = None, value: str | None = None) -> Interval | None:
        """The 95 % interval, clustered by video: of all questions, or of those whose ``label`` has this ``value``."""
        counted = [credit for credit in self._counted() if label is None or credit.question.groups.get(label) == value]
        return share_interval([each.value or 0.0 for each in counted], [each.question.video for each in counted])

    def mean_interval(self, label: str) -> Interval | None:
        """The 95 % interval of :meth:`mean_over`, clustered by video."""
        counted = [credit for credit in self._counted() if label in credit.question.groups]
        return share_interval(
            [each.value or 0.0 for each in counted],
            [each.question.video for each in counted],
            [each.question.groups[label] for each in counted],
        )

    def _counted(self) -> list[Credit]:
        return [credit for credit in self.credits if credit.value is not None]


@dataclass(frozen=True)
class MeanRecall:
    """A mean over questions."""

    recall: float | None
    """Share in 0..1; None where there is no question to count."""
    questions: int


@dataclass(frozen=True)
class MeanScores(MeanRecall):
    """Means over questions of recall, precision and F1, each averaged by itself."""

    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class EvidenceScores:
    """How much of the evidence the selected frames show, and how many of them show any."""

    tolerance: float
    """Seconds."""
    overall: MeanScores
    groups: Mapping[str, Mapping[str, MeanScores]]
    """As in :class:`Accuracy`."""


@dataclass(frozen=True)
class SpanScores:
    """How well the frames of one question meet its evidence."""

    recall: float
    """Share of the evidence spans that a frame shows."""
    precision: float
    """Share of the frames that show a span of the evidence."""

    @property
    def f1(self) -> float:
        """The harmonic mean of both; 0 where both are."""
        total = self.recall + self.precision
        return 2 * self.recall * self.precision / total if total else 0.0


NOTHING_SHOWN = SpanScores(0.0, 0.0)
"""Of a question without a frame."""


@dataclass(frozen=True)
class EvidenceRecall:
    """How much of the evidence the selected frames show."""

    tolerance: float
    """Seconds."""
    overall: MeanRecall
    groups: Mapping[str, Mapping[str, MeanRecall]]
    """As in :class:`Accuracy`."""


def accuracy(rows: Iterable[AnswerRow], questions: Sequence[Question]) -> Accuracy:
    """Count the answers to ``questions``: right is the right option read from an answer with status ``ok``.

    Of several rows for one question the last counts, as in a journal whose failed questions were asked again.

    Raises:
        InputError: the rows are not of these questions, or of more than one sampler and answerer.
    """
    said = {row.question.id: (row.answer.status, row.answer.option) for row in _checked(rows, questions)}
    return Accuracy(tuple(strict_credit(question, *said.get(question.id, (None, None))) for question in questions))


def strict_credit(question: Question, status: Status | None, option: int | None) -> Credit:
    """The credit of an answer as :func:`strict_value` counts it."""
    return Credit(question, MISSING if status is None else status.value, strict_value(question, status, option))


def strict_value(question: Question, status: Status | None, option: int | None) -> float | None:
    """What an answer is worth: 1 for the right option with status ``ok``, else 0; None where no option is right.

    ``status`` is None where the question has no answer.
    """
    if question.correct is None:
        return None
    return float(status is Status.OK and option == question.correct)


def span_recall(times: Sequence[float], spans: Sequence[Span], tolerance: float) -> float:
    """Share of ``spans`` with one of ``times`` inside them or within ``tolerance`` of an end; all in seconds.

    Span by span, so that eight frames in one of two spans are worth half: the second one stays unseen.
    """
    margin = tolerance + _ROUNDING
    seen = sum(any(span.start - margin <= time <= span.end + margin for time in times) for span in spans)
    return seen / len(spans)


def span_scores(times: Sequence[float], spans: Sequence[Span], tolerance: float, *, truncate: bool) -> SpanScores:
    """Recall and precision of frames against evidence; all in seconds.

    Args:
        times: of the frames.
        spans: the evidence.
        tolerance: how far from a span a frame may be that shows it.
        truncate: take whole seconds of both, as LV-Haystack does (arXiv 2504.02259, with a tolerance of 5).
    """
    if not times:
        return NOTHING_SHOWN
    if truncate:
        times = [math.floor(time) for time in times]
        spans = [Span(math.floor(span.start), math.floor(span.end)) for span in spans]
    margin = tolerance + _ROUNDING
    shown = sum(any(span.start - margin <= time <= span.end + margin for span in spans) for time in times)
    return SpanScores(span_recall(times, spans, tolerance), shown / len(times))


def mean_scores(scores: Mapping[str, SpanScores], questions: Sequence[Question], tolerance: float) -> EvidenceScores:
    """Mean of :func:`span_scores` over the ``questions`` that have evidence; without a selection all are 0.

    F1 is averaged over the questions, not made of the mean recall and precision. (LV-Haystack's code leaves questions
    without frames out of the means.) ``scores`` are by question.
    """
    overall: list[SpanScores] = []
    groups: dict[str, dict[str, list[SpanScores]]] = {}
    for question in questions:
        if question.evidence:
            overall.append(scores.get(question.id, NOTHING_SHOWN))
            _add_to_groups(groups, question, overall[-1])
    return EvidenceScores(
        tolerance=tolerance,
        overall=_means(overall),
        groups={label: {value: _means(seen) for value, seen in values.items()} for label, values in groups.items()},
    )


def mean_recall(recalls: Mapping[str, float], questions: Sequence[Question], tolerance: float) -> EvidenceRecall:
    """Mean of :func:`span_recall` over the ``questions`` that have evidence; without a selection it is 0.

    Recall rises with the number of frames, so compare it at equal budgets only. Frames of every source count: the
    question is what the answerer could see. ``recalls`` are by question.
    """
    overall: list[float] = []
    groups: dict[str, dict[str, list[float]]] = {}
    for question in questions:
        if not question.evidence:
            continue
        recall = recalls.get(question.id, 0.0)
        overall.append(recall)
        _add_to_groups(groups, question, recall)
    return EvidenceRecall(
        tolerance=tolerance,
        overall=_mean(overall),
        groups={label: {value: _mean(seen) for value, seen in values.items()} for label, values in groups.items()},
    )


def _checked(rows: Iterable[AnswerRow], questions: Sequence[Question]) -> Iterator[AnswerRow]:
    """The rows, one after the other, if they can be counted."""
    asked = {question.id: question for question in questions}
    makers: set[tuple[str, str]] = set()
    for row in rows:
        question = asked.get(row.question.id)
        if question is None or (question.text, question.options) != (row.question.text, row.question.options):
            # Joined by id alone, an answer "B" to other options would be counted without a word.
            what = "is not among the questions" if question is None else "has another text or other options"
            raise InputError(
                f"the answer to question {row.question.id!r} cannot be counted: the question {what} of this benchmark",
                "count the answers with the benchmark they were made for, or run the command again",
            )
        makers.add((row.sampler, row.answerer))
        yield row
    check_makers(makers)


def check_makers(makers: Collection[tuple[str, str]]) -> None:
    """Check that answers are of one pipeline; ``makers`` are the names of sampler and answerer.

    Raises:
        InputError: they are not.
    """
    if len(makers) > 1:
        pairs = ", ".join(f"{sampler} + {answerer}" for sampler, answerer in sorted(makers))
        raise InputError(f"answers of several pipelines are mixed: {pairs}", "count each run folder by itself")


def _add_to_groups(groups: dict[str, dict[str, list[T]]], question: Question, result: T) -> None:
    for label, value in question.groups.items():
        groups.setdefault(label, {}).setdefault(value, []).append(result)


def _tally(credits: Sequence[float]) -> Tally:
    correct = math.fsum(credits)  # a draw of one in three, three times, is one
    return Tally(int(correct) if correct == int(correct) else correct, len(credits))


def _means(scores: Sequence[SpanScores]) -> MeanScores:
    if not scores:
        return MeanScores(None, 0, None, None)
    recall, precision, f1 = (
        math.fsum(values) / len(scores)
        for values in zip(*((each.recall, each.precision, each.f1) for each in scores), strict=True)
    )
    return MeanScores(recall, len(scores), precision, f1)


def _mean(recalls: Sequence[float]) -> MeanRecall:
    return MeanRecall(sum(recalls) / len(recalls) if recalls else None, len(recalls))
