"""Runs by the questions that they answer: accuracies over different questions cannot be compared."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from pipeline.domain import Question
from pipeline.reports.scoreboard import RunScore


@dataclass(frozen=True)
class QuestionSet:
    """The runs over the same questions of one benchmark."""

    benchmark: str
    """Empty where no run names it."""
    name: str
    """Benchmark and number of questions, or what was asked; unique on a page."""
    scores: tuple[RunScore, ...]

    @property
    def questions(self) -> int:
        """How many there are."""
        return self.scores[0].questions


def question_sets(scores: Sequence[RunScore]) -> list[QuestionSet]:
    """One for each benchmark and set of questions, in the order of the runs.

    A run that does not name its benchmark, since it answers from a selection file, belongs to one with its questions.
    """
    keys: dict[int, Hashable] = {}
    found: dict[tuple[Hashable, str], list[RunScore]] = {}
    named: dict[Hashable, str] = {}
    for each in scores:
        questions = each.run.questions
        # Runs that are read together hold one tuple of the questions that they have alike.
        if id(questions) not in keys:
            # Somebody may ask the same about several videos; those of a benchmark may lie elsewhere in each run.
            videos = frozenset(question.video for question in questions) if each.run.is_ask else None
            keys[id(questions)] = frozenset(map(_content, questions)), videos
        key = keys[id(questions)]
        if each.run.benchmark:
            named.setdefault(key, each.run.benchmark)
    for each in scores:
        key = keys[id(each.run.questions)]
        found.setdefault((key, each.run.benchmark or named.get(key, "")), []).append(each)
    sets: list[QuestionSet] = []
    for (_, benchmark), same in found.items():
        count = same[0].questions
        name = f"{benchmark or 'no benchmark'}, {count} question{'' if count == 1 else 's'}"
        if same[0].run.is_ask:
            name = ", ".join(question.text for question in same[0].run.questions)
        alike = sum(each.name.startswith(name) for each in sets)
        sets.append(QuestionSet(benchmark, f"{name}, set {alike + 1}" if alike else name, tuple(same)))
    return sets


def _content(question: Question) -> Hashable:
    return question.id, question.text, question.options, question.correct
