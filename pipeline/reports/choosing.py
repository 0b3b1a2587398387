"""Filters for cards: marks such as ``wrong``, and the labels of the benchmark."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.domain import Question
from pipeline.reports.document import packed
from pipeline.reports.views import Card

_FILTERS = (
    ("all", "All", "every question"),
    ("wrong", "Wrong", "an answer was read, and it is not the right one"),
    ("failed", "Failed", "a stage ended in a failure"),
    ("disagree", "Disagreeing", "the runs gave different answers"),
    ("missed", "Evidence missed", "a selection leaves out some of the evidence"),
    ("unfinished", "Unfinished", "a run has not come to this question yet"),
)
_MOST_CHOICES = 60
"""Values of a label that a list to choose from can hold; a search finds the others."""


@dataclass(frozen=True)
class Filter:
    """A choice of cards."""

    mark: str
    name: str
    meaning: str
    count: int


@dataclass(frozen=True)
class Choice:
    """A label of the benchmark, or a family of them, by which cards can be chosen."""

    label: str
    values: tuple[str, ...]


def filters(found: Sequence[Card]) -> list[Filter]:
    """The filters of a report, with the number of cards that each lets through."""
    counts = {mark: sum(mark == "all" or mark in card.marks for card in found) for mark, _, _ in _FILTERS}
    return [
        Filter(mark, name, meaning, counts[mark])
        for mark, name, meaning in _FILTERS
        if mark != "unfinished" or counts[mark]
    ]


def choices(questions: Iterable[Question]) -> list[Choice]:
    """Every label that has something to choose between, in the order in which the questions bring them."""
    labels: dict[str, set[str]] = {}
    for question in questions:
        for label, value in question.groups.items():
            labels.setdefault(family(label), set()).add(value)
    return [
        Choice(label, tuple(sorted(values, key=in_order)))
        for label, values in labels.items()
        if 2 <= len(values) <= _MOST_CHOICES
    ]


def family(label: str) -> str:
    """``question_type`` of ``question_type/reasoning``: a question of several types has a label for each."""
    return label.partition("/")[0]


def searched(found: Sequence[Card]) -> str:
    """What packed cards say, in their order, as the page's search reads it."""
    return packed(json.dumps([card.search_text for card in found], ensure_ascii=False))


def in_order(value: str) -> tuple[int, float, str]:
    """Numbers by size and before words: the duration groups 15, 60, 600, 3600."""
    try:
        return (0, float(value), value)
    except ValueError:
        return (1, 0.0, value)
