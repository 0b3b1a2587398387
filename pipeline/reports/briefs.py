"""What a report needs of every row of a run, noted while the rows are read once: a run of thousands is a few megabytes.

Scores, frames and texts stay on the disk, and are read again for the questions that a page shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.benchmarks.grounding import IntervalRule, interval_value
from pipeline.benchmarks.metrics import span_recall
from pipeline.benchmarks.official import OfficialRule, official_value
from pipeline.domain import AnswerForm, Cost, Status

RECALL_TOLERANCE = 1.0
"""Seconds around an evidence span within which a selected frame shows it: candidates are a second apart."""


class RelevanceBrief(NamedTuple):
    """What a report needs of a relevance without its scores."""

    status: Status
    detail: str


class SelectionBrief(NamedTuple):
    """What a report needs of a selection without its frames."""

    status: Status
    detail: str
    policy: str
    budget: int
    frames: int
    """How many."""
    recall: float | None
    """Share of the evidence that they show, 0..1; None where there is none."""
    content: int
    """Hash of the frames of a selection with a failure, which runs of one first stage have alike; else 0."""


class AnswerBrief(NamedTuple):
    """What a report needs of an answer without its text."""

    status: Status
    detail: str
    option: int | None
    official: tuple[float | None, ...]
    """What it is worth by the rules of others."""
    ious: tuple[float | None, ...] = ()
    """Of a question that asks for intervals: by our rule and by those of others."""


class QuestionBrief(NamedTuple):
    """All that a run has of one question."""

    relevance: RelevanceBrief | None = None
    selection: SelectionBrief | None = None
    answer: AnswerBrief | None = None


@dataclass(frozen=True)
class StageSum:
    """What one stage took, over all its rows."""

    total: Cost
    """Without further figures."""
    thinking_tokens: int
    """Of the output tokens, those of thoughts, as far as they are known."""
    cut_thoughts: int
    """Answers that have none because their thought did not end."""


@dataclass(frozen=True)
class RunBriefs:
    """Of all rows of a run."""

    of: Mapping[str, QuestionBrief]
    """By question."""
    sampling: StageSum
    answering: StageSum
    makers: frozenset[tuple[str, str]]
    """Sampler and answerer of the answers. A run has one pair."""


RelevanceNote: TypeAlias = tuple[RelevanceBrief, Cost]
AnswerNote: TypeAlias = tuple[AnswerBrief, Cost, bool, tuple[str, str]]
"""With its cost, whether its thought was cut, and its sampler and answerer."""


def relevance_note(row: RelevanceRow) -> RelevanceNote:
    """What is noted of a relevance, which may lack its scores."""
    return RelevanceBrief(row.relevance.status, row.relevance.detail), row.relevance.cost


def selection_note(row: SelectionRow) -> SelectionBrief:
    """What is noted of a selection."""
    chosen, evidence = row.selection, row.question.evidence
    recall = span_recall([frame.time for frame in chosen.frames], evidence, RECALL_TOLERANCE) if evidence else None
    content = 0 if chosen.status is Status.OK else hash(chosen.frames)
    return SelectionBrief(
        chosen.status, chosen.detail, chosen.policy, chosen.budget, len(chosen.frames), recall, content
    )


def answer_note(row: AnswerRow, rules: Sequence[OfficialRule], of_intervals: Sequence[IntervalRule]) -> AnswerNote:
    """What is noted of an answer.

    Args:
        row: with the answer.
        rules: those by which others count the benchmark.
        of_intervals: those by which answers that are intervals are counted.
    """
    said = row.answer
    asks_when = row.question.answer_form is AnswerForm.INTERVALS
    ious = tuple(interval_value(row.question, said, rule) for rule in of_intervals if asks_when)
    official = tuple(official_value(row.question, said, rule) for rule in rules)
    is_cut = said.status is Status.TRUNCATED_OUTPUT and bool(said.thought)
    return (
        AnswerBrief(said.status, said.detail, said.option, official, ious),
        said.cost,
        is_cut,
        (row.sampler, row.answerer),
    )


def run_briefs(
    relevances: Mapping[str, RelevanceNote], selections: Mapping[str, SelectionBrief], answers: Mapping[str, AnswerNote]
) -> RunBriefs:
    """The notes of a run, each by question, in little memory: most rows are alike in all but their costs."""
    same: dict[QuestionBrief, QuestionBrief] = {}
    of: dict[str, QuestionBrief] = {}
    for question_id in dict.fromkeys((*relevances, *selections, *answers)):
        relevance, answer = relevances.get(question_id), answers.get(question_id)
        brief = QuestionBrief(relevance and relevance[0], selections.get(question_id), answer and answer[0])
        of[question_id] = same.setdefault(brief, brief)
    return RunBriefs(
        of,
        _sum(cost for _, cost in relevances.values()),
        _sum((note[1] for note in answers.values()), sum(note[2] for note in answers.values())),
        frozenset(note[3] for note in answers.values()),
    )


def _sum(costs: Iterable[Cost], cut_thoughts: int = 0) -> StageSum:
    seconds, prompt, output, dollars, thinking = 0.0, 0, 0, 0.0, 0.0
    for cost in costs:
        seconds += cost.seconds
        prompt += cost.prompt_tokens
        output += cost.output_tokens
        dollars += cost.dollars
        thinking += cost.more.get("thinking_tokens", 0)
    return StageSum(Cost(seconds, prompt, output, dollars), round(thinking), cut_thoughts)
