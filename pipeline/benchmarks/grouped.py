"""Scores of groups of four questions, of which later ones build on earlier ones (Video-MME-v2, arXiv 2604.05015).

With s1..s4 in {0, 1} for wrong and right, a group scores of 100:

* ``relevance``, four questions about one ability: (s1 + s2 + s3 + s4)^2 / 16 of it: 0, 6.25, 25, 56.25, 100.
* ``logic``, questions that follow from one another: by the length of the unbroken run of right answers from the first
  one. ``[1, 2, 3, 4]``: 0, 6.25, 25, 56.25, 100. ``[1, [2, 3], 4]``: 0, 8.33, 33.33, 58.33, 100, and 2 and 3 may be
  right in either order. ``[[1, 2], 3, 4]``: 0, 10, 20, 50, 100, likewise for 1 and 2.

The score of a run is the mean over its groups. The class of a group (``level``, ``second_head``, ``third_head``) is
that of its last question; an accuracy by level, beside it, uses each question's own.

An answer that is missing or cannot be read is a wrong one here, and a group with such an answer is counted as
incomplete. The authors' script gives what it cannot read -1: it takes a point off a ``relevance`` group, and
continues the run of a ``logic`` group as a right answer does (``evaluation/test_video_mme_v2.py``).
lmms-eval gives it 0. The authors' script takes every four rows in the order of the file for a group, so that a run over
a part of the rows scores groups that are none, and lmms-eval scores a group by the rows that are there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.benchmarks.intervals import Interval, share_interval
from pipeline.benchmarks.metrics import Credit
from pipeline.domain import Status
from pipeline.errors import InputError

SIZE = 4
GROUP_TYPE = "group_type"
GROUP_STRUCTURE = "group_structure"
CLASSES = (GROUP_TYPE, GROUP_STRUCTURE, "level", "second_head", "third_head")
"""Labels by which groups are reported."""
_RUNS: Mapping[str, tuple[float, ...]] = {
    "[1,2,3,4]": (0.0, 100 / 16, 400 / 16, 900 / 16, 100.0),
    "[1,[2,3],4]": (0.0, 100 / 12, 400 / 12, 700 / 12, 100.0),
    "[[1,2],3,4]": (0.0, 10.0, 20.0, 50.0, 100.0),
}
"""Score by the length of the run, of each structure."""
_ID = re.compile(r"(.+)-([1-4])")


def check_group(id: str, kind: str, structure: str | None, where: str) -> None:
    """Check that a question can be placed in a group.

    Raises:
        InputError: its id has no number, or the group is of an unknown type or structure.
    """
    problem = None
    if _ID.fullmatch(id) is None:
        problem = f"question_id: {id!r} does not end in the question's number, -1 to -{SIZE}"
    elif kind not in ("relevance", "logic"):
        problem = f"group_type: {kind!r} is neither 'relevance' nor 'logic'"
    elif kind == "logic" and _plain(structure) not in _RUNS:
        problem = f"group_structure: {structure!r} is none of {', '.join(_RUNS)}"
    if problem is not None:
        raise InputError(f"{where}: {problem}", "correct the row, or fetch the annotations again")


def group_score(kind: str, structure: str | None, worth: Sequence[float]) -> float:
    """The score of one group, 0 to 100.

    Args:
        kind: ``relevance`` or ``logic``.
        structure: of a ``logic`` group.
        worth: of its four answers, in order: 1 right, 0 wrong, and what a rule puts for an unreadable one.
    """
    if kind == "relevance":
        right = int(sum(worth))
        return 100 * right**2 / SIZE**2 if right > 0 else 0.0
    run = next((place for place, value in enumerate(worth) if not value), SIZE)
    shape = _plain(structure)
    # One more for the member of a pair that is right although the one before it is not.
    if (shape == "[1,[2,3],4]" and run == 1 and worth[2]) or (shape == "[[1,2],3,4]" and run == 0 and worth[1]):
        run += 1
    return _RUNS[shape][run]


@dataclass(frozen=True)
class ScoredGroup:
    """One group of a run."""

    id: str
    video: str
    score: float
    """0 to 1."""
    classes: Mapping[str, str]
    """Its labels, those of its last question."""
    is_complete: bool
    """Whether all of its questions were asked and have an answer that could be read."""


@dataclass(frozen=True)
class GroupScores:
    """The groups of a run, scored by one rule."""

    groups: tuple[ScoredGroup, ...]

    @cached_property
    def incomplete(self) -> tuple[str, ...]:
        """Ids of the groups in which an answer is missing or could not be read."""
        return tuple(group.id for group in self.groups if not group.is_complete)

    @property
    def mean(self) -> float | None:
        """0 to 1; None without a group."""
        return _mean([group.score for group in self.groups])

    @cached_property
    def classes(self) -> Mapping[str, Mapping[str, tuple[float, int]]]:
        """Mean and number of groups by label and value."""
        found: dict[str, dict[str, list[float]]] = {}
        for label in CLASSES:
            for group in self.groups:
                if label in group.classes:
                    found.setdefault(label, {}).setdefault(group.classes[label], []).append(group.score)
        return {
            label: {value: (sum(scores) / len(scores), len(scores)) for value, scores in values.items()}
            for label, values in found.items()
        }

    def interval(self) -> Interval | None:
        """The 95 % interval of the mean, clustered by video."""
        return share_interval([group.score for group in self.groups], [group.video for group in self.groups])


def score_groups(credits: Sequence[Credit], unread: float) -> GroupScores:
    """Score the groups of the questions that were asked.

    Args:
        credits: one a question, counted by one rule.
        unread: what the rule puts for an answer that it does not count.
    """
    groups: dict[str, dict[int, Credit]] = {}
    for credit in credits:
        placed = _ID.fullmatch(credit.question.id)
        if placed is not None:
            groups.setdefault(placed[1], {})[int(placed[2])] = credit
    return GroupScores(tuple(_scored(id, held, unread) for id, held in groups.items()))


def _scored(id: str, held: Mapping[int, Credit], unread: float) -> ScoredGroup:
    labelled = [held[number].question for number in sorted(held) if GROUP_TYPE in held[number].question.groups]
    if not labelled:  # no row of it could be used
        return ScoredGroup(id, id, 0.0, {}, is_complete=False)
    last = labelled[-1]
    numbers = range(1, SIZE + 1)
    # A question that was not asked is a wrong one, whatever the rule.
    values = [(held[number].value, unread) if number in held else (0.0, 0.0) for number in numbers]
    worth = [instead if value is None else value for value, instead in values]
    return ScoredGroup(
        id,
        last.video,
        group_score(last.groups[GROUP_TYPE], last.groups.get(GROUP_STRUCTURE), worth) / 100,
        {label: last.groups[label] for label in CLASSES if label in last.groups},
        all(number in held and held[number].status == Status.OK for number in numbers),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _plain(structure: str | None) -> str:
    return re.sub(r"\s", "", structure or "")
