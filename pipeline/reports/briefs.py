"""What a report needs of every row of a run, noted while the rows are read once: a run of thousands is a few megabytes.

Scores, frames and texts stay on the disk, and are read again for the questions that a page shows.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.benchmarks.grounding import IntervalRule, interval_value
from pipeline.benchmarks.metrics import span_recall
from pipeline.benchmarks.official import OfficialRule, official_value
from pipeline.domain import Answer, AnswerForm, Relevance, Status
from pipeline.ledger import Stage, alone, figures_of, known

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


class Took(NamedTuple):
    """What one result took."""

    figures: array[float]
    """As :func:`pipeline.ledger.known` gives them."""
    cached: bool
    device: str

    @property
    def alone(self) -> list[float | None]:
        """What it takes alone, in the order of the stage's figures; None for what is not known."""
        return [None if isnan(value) else value for value in self.figures[len(self.figures) // 2 :]]

    @property
    def spent(self) -> list[float | None]:
        """What was spent in its run, likewise: nothing where it comes from a cache."""
        cost = self.figures[: len(self.figures) // 2]
        return [None if isnan(value) else 0.0 if self.cached else value for value in cost]


class TookRows:
    """What each result of a stage took, in arrays: a :class:`Took` each would be twice the memory."""

    def __init__(self, each: Iterable[Took], stage: Stage) -> None:
        self._stage: Stage = stage
        self._figures, self._cached = array("d"), bytearray()
        self._devices: list[str] = []
        for took in each:
            self._figures.extend(took.figures)
            self._cached.append(took.cached)
            self._devices.append(took.device)

    def __getitem__(self, place: int) -> Took:
        width = 2 * len(figures_of(self._stage))
        figures = self._figures[place * width : (place + 1) * width]
        return Took(figures, bool(self._cached[place]), self._devices[place])

    def __len__(self) -> int:
        return len(self._cached)

    def is_same(self, other: TookRows) -> bool:
        """Whether the other rows are these, also where figures are not known: NaN equals nothing."""
        one, two = (memoryview(rows._figures).cast("B") for rows in (self, other))
        return one == two and (self._cached, self._devices) == (other._cached, other._devices)

    def sum(self, cut_thoughts: int = 0) -> StageSum:
        """What the results took together."""
        names, devices = figures_of(self._stage), set(self._devices)
        rows = np.array(self._figures).reshape(len(self), 2, len(names))
        cached = np.array(self._cached, dtype=bool)
        told = ~np.isnan(rows)

        def sums(of: npt.NDArray[np.float64], is_told: npt.NDArray[np.bool_]) -> dict[str, float]:
            totals, are_told = np.where(is_told, of, 0.0).sum(axis=0).tolist(), np.any(is_told, axis=0).tolist()
            return {name: total for name, total, told in zip(names, totals, are_told, strict=True) if told}

        return StageSum(
            len(self),
            int(cached.sum()),
            sums(rows[:, 0], told[:, 0]),
            sums(np.where(cached[:, None], 0.0, rows[:, 0]), told[:, 0]),
            sums(rows[:, 1], told[:, 1]),
            frozenset(name for place, name in enumerate(names) if not told[:, 1, place].all()),
            devices.pop() if len(devices) == 1 else "",
            cut_thoughts,
        )


@dataclass(frozen=True)
class StageSum:
    """What one stage took, over all its rows; each mapping is of figures by name, those that any row knows."""

    rows: int
    cached: int
    """Rows whose results come from a cache."""
    cost: Mapping[str, float]
    """Shared work divided, those from a cache with what they took when they were computed."""
    spent: Mapping[str, float]
    """The same, of what this run computed."""
    alone: Mapping[str, float]
    """As if each question had been the only one."""
    unknown: frozenset[str]
    """Figures that some rows do not know."""
    device: str
    """Of all rows; empty where they differ."""
    cut_thoughts: int
    """Answers that have none because their thought did not end."""


@dataclass(frozen=True)
class Sampled:
    """What is noted of all relevances of a run. Runs with equal ones have one together."""

    of: Mapping[str, RelevanceBrief]
    """By question."""
    places: Mapping[str, int]
    """Of the questions among ``rows``."""
    rows: TookRows
    total: StageSum

    def is_same(self, other: Sampled) -> bool:
        """Whether the same is noted of the same relevances."""
        return self.rows.is_same(other.rows) and (self.places, self.of) == (other.places, other.of)

    def took(self, question_id: str) -> Took | None:
        """What the sampler took for a question; None where it has no row."""
        place = self.places.get(question_id)
        return None if place is None else self.rows[place]


@dataclass(frozen=True)
class RunBriefs:
    """The briefs of all rows of a run."""

    of: Mapping[str, QuestionBrief]
    """By question."""
    sampled: Sampled
    answering: StageSum
    makers: frozenset[tuple[str, str]]
    """Sampler and answerer of the answers. A run has one pair."""


RelevanceNote: TypeAlias = tuple[RelevanceBrief, Took]
AnswerNote: TypeAlias = tuple[AnswerBrief, Took, bool, tuple[str, str]]
"""With what it took, whether its thought was cut, and its sampler and answerer."""


def relevance_note(row: RelevanceRow) -> RelevanceNote:
    """What is noted of a relevance, which may lack its scores."""
    return RelevanceBrief(row.relevance.status, row.relevance.detail), took(row.relevance, "sampler")


def took(result: Relevance | Answer, stage: Stage) -> Took:
    """What a result of a stage took."""
    # Rows name few devices, each in a string of its own.
    return Took(known(result.cost, alone(result), stage), result.cached, sys.intern(result.cost.device))


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
    brief = AnswerBrief(said.status, said.detail, said.option, official, ious)
    return brief, took(said, "answerer"), is_cut, (row.sampler, row.answerer)


def sampled(relevances: Mapping[str, RelevanceNote], places: Mapping[str, int]) -> Sampled:
    """The notes of all relevances, by question; ``places`` are those of the questions, in the same order."""
    rows = TookRows((note[1] for note in relevances.values()), "sampler")
    return Sampled({question_id: note[0] for question_id, note in relevances.items()}, places, rows, rows.sum())


def run_briefs(
    relevances: Sampled, selections: Mapping[str, SelectionBrief], answers: Mapping[str, AnswerNote]
) -> RunBriefs:
    """The notes of a run, each by question, in little memory: most rows are alike in all but their costs."""
    same: dict[QuestionBrief, QuestionBrief] = {}
    of: dict[str, QuestionBrief] = {}
    for question_id in dict.fromkeys((*relevances.of, *selections, *answers)):
        answer = answers.get(question_id)
        brief = QuestionBrief(relevances.of.get(question_id), selections.get(question_id), answer and answer[0])
        of[question_id] = same.setdefault(brief, brief)
    return RunBriefs(
        of,
        relevances,
        TookRows((note[1] for note in answers.values()), "answerer").sum(sum(note[2] for note in answers.values())),
        frozenset(note[3] for note in answers.values()),
    )
