"""Counts answers that are intervals of the video, against the question's evidence.

The intersection over union (IoU) of two sets of intervals: each is merged, touching ends too, and |A and B| / |A or B|
is computed of the merged ones (``calculate_intervals_iou`` in ``run/utils.py`` of CG-Bench, arXiv 2412.12075; of one
interval each, that is ExtremeWhenBench's, arXiv 2606.12300). Answering the whole video for 3 s of 2741 s is worth
0.0011.

As everywhere, the denominator is the questions that were asked: an answer that is missing, failed or names no interval
is an IoU of 0. CG-Bench's script keeps no row of one that it cannot read, which leaves it out of the mean. VLMEvalKit,
whose figure is not computed here, drops the last of an odd count of numbers, and takes intervals of at most 1 for
fractions of the video.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.benchmarks.intervals import Interval, share_interval
from pipeline.benchmarks.metrics import MISSING
from pipeline.benchmarks.official import Counts
from pipeline.domain import Answer, Question, Span, Status
from pipeline.wellformed import loaded

THRESHOLDS = (0.3, 0.5, 0.7)
"""Of R@t, the share of questions with at least this IoU."""
Pairs = Sequence[tuple[float, float]]


def iou(one: Pairs, other: Pairs) -> float:
    """Intersection over union of two sets of ``(start, end)`` in seconds; 0 where neither has any length."""
    merged, others = _merged(one), _merged(other)
    shared = sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in merged for b in others)
    union = sum(end - start for start, end in (*merged, *others)) - shared
    return shared / union if union > 0 else 0.0


def _merged(pairs: Pairs) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for start, end in sorted(pairs, key=lambda pair: pair[0]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


@dataclass(frozen=True)
class IntervalRule:
    """One rule to read intervals and count them by."""

    name: str
    """The project whose code counts by this rule; empty for our own."""
    read: Callable[[Answer], Pairs | None]
    """The intervals that the rule reads from an answer; None if it reads none."""
    unreadable: Counts
    """What an answer counts from which none can be read, and a missing one."""

    @property
    def about(self) -> str:
        """The rule in one line."""
        return f"{self.name or 'as read here'}: an answer without an interval {self.unreadable}"


@dataclass(frozen=True)
class IntervalCredit:
    """One question and the IoU of its answer."""

    question: Question
    status: str
    """The answer's, or ``missing``."""
    iou: float | None
    """None where the rule does not count the question."""


@dataclass(frozen=True)
class Grounding:
    """The answers of a run that are intervals, counted by one rule."""

    rule: IntervalRule
    credits: tuple[IntervalCredit, ...]
    """One a question that asks for intervals."""

    @cached_property
    def counted(self) -> tuple[float, ...]:
        """The IoUs that count."""
        return tuple(credit.iou for credit in self.credits if credit.iou is not None)

    @property
    def mean(self) -> float | None:
        """mIoU; None where nothing counts."""
        return sum(self.counted) / len(self.counted) if self.counted else None

    def at_least(self, threshold: float) -> float | None:
        """R@t, the share of questions with at least this IoU."""
        return sum(value >= threshold for value in self.counted) / len(self.counted) if self.counted else None

    @property
    def unread(self) -> int:
        """Questions without an answer, or with one that names no interval by our reading."""
        return sum(credit.status != Status.OK for credit in self.credits)

    @cached_property
    def groups(self) -> Mapping[str, Mapping[str, tuple[float, int]]]:
        """The mean and the number of questions by label and value."""
        found: dict[str, dict[str, list[float]]] = {}
        for credit in self.credits:
            if credit.iou is not None:
                for label, value in credit.question.groups.items():
                    found.setdefault(label, {}).setdefault(value, []).append(credit.iou)
        return {
            label: {value: (sum(seen) / len(seen), len(seen)) for value, seen in values.items()}
            for label, values in found.items()
        }

    def interval(self) -> Interval | None:
        """The 95 % interval of the mean, clustered by video."""
        counted = [credit for credit in self.credits if credit.iou is not None]
        return share_interval([each.iou or 0.0 for each in counted], [each.question.video for each in counted])


def interval_value(question: Question, answer: Answer | None, rule: IntervalRule) -> float | None:
    """The IoU of an answer, or of none; None where the rule does not count the question, or nothing is known of it."""
    if not question.evidence:
        return None
    pairs = None if answer is None else rule.read(answer)
    if pairs is None:
        return None if rule.unreadable is Counts.LEFT_OUT else 0.0
    return iou(pairs, _pairs(question.evidence))


def missing_credit(question: Question, rule: IntervalRule) -> IntervalCredit:
    """The credit of a question without an answer."""
    return IntervalCredit(question, MISSING, interval_value(question, None, rule))


def _pairs(spans: Sequence[Span]) -> Pairs:
    return [(span.start, span.end) for span in spans]


def _as_read_here(answer: Answer) -> Pairs | None:
    return _pairs(answer.intervals) if answer.status is Status.OK else None


_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*[-~\u2013]\s*(\d+(?:\.\d+)?)")
_RANGE_OR_TO = re.compile(r"(\d+(?:\.\d+)?)\s*(?:[-~\u2013]|to)\s*(\d+(?:\.\d+)?)")
_TOLD = ("happen", "start", "end")


def extremewhen_interval(answer: Answer) -> Pairs | None:
    """The first range of the first clause that has one and says "happen", "start" or "end"; else the first of all.

    ``parse_time`` in ``evaluation/eval_qwen35_vllm.py`` of ExtremeWhenBench: a clause ends at ``!``, ``?`` or a line
    feed, clock times are not known, and a range that is the wrong way round is turned.
    """
    text = answer.text.lower()
    clauses = [clause for clause in re.split(r"[!?\n]", text) if any(word in clause for word in _TOLD)]
    for clause in (*clauses, text):
        if found := _RANGE.search(clause):
            return [_ordered(found)]
    return None


def extremewhen_task_interval(answer: Answer) -> Pairs | None:
    """The last range, ``a - b`` or ``a to b``, as ExtremeWhenBench's task for lmms-eval reads it."""
    found = list(_RANGE_OR_TO.finditer(answer.text.lower()))
    return [_ordered(found[-1])] if found else None


def _ordered(found: re.Match[str]) -> tuple[float, float]:
    one, other = float(found[1]), float(found[2])
    return min(one, other), max(one, other)


def cgbench_intervals(answer: Answer) -> Pairs | None:
    """``result`` of the JSON in a fence; without it, all numbers of the text in pairs, if their count is even.

    ``post_process`` in ``run/utils.py`` of CG-Bench. A minus sign belongs to a number, so that "8-11" is 8 and -11.
    """
    fenced = re.search("```json(.*?)```", answer.text, re.DOTALL)
    if fenced is not None:
        try:
            found = loaded(fenced[1].strip())["result"]
            return [(float(start), float(end)) for start, end in found]
        except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError):
            pass
    numbers = re.findall(r"-?\d+\.?\d*", answer.text)
    if not numbers or len(numbers) % 2:
        return None
    return [(float(start), float(end)) for start, end in zip(numbers[::2], numbers[1::2], strict=True)]


HERE = IntervalRule("", _as_read_here, Counts.WRONG)
_OTHERS: Mapping[str, tuple[IntervalRule, ...]] = {
    "extremewhen": (
        IntervalRule("ExtremeWhenBench", extremewhen_interval, Counts.WRONG),
        IntervalRule("its lmms-eval task", extremewhen_task_interval, Counts.WRONG),
    ),
    "cgbench": (IntervalRule("CG-Bench", cgbench_intervals, Counts.LEFT_OUT),),
}
"""By the benchmark's name: how others count its intervals."""


def interval_rules_for(benchmark: str) -> tuple[IntervalRule, ...]:
    """Our own rule and those by which others count the benchmark of this name."""
    return (HERE, *_OTHERS.get(benchmark, ()))
