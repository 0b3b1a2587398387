"""Questions and answers made up for the tests of counting: no video, no model."""

from __future__ import annotations

from pipeline.artefacts.rows import AnswerRow
from pipeline.domain import OPTION_LETTERS, Answer, Question, Status

OPTIONS = ("red", "blue", "green", "white")


def question(id: str, correct: int | None = 0, video: str = "v.mp4", **groups: str) -> Question:
    return Question(id, video, f"What of {id}?", OPTIONS, correct, groups)


def said(
    of: Question, text: str, option: int | None = None, status: Status = Status.OK, sampler: str = "gens"
) -> AnswerRow:
    return AnswerRow("key", sampler, "qwen", of, Answer(of.id, text, option, status))


def answered(of: Question, right: bool) -> AnswerRow:
    """The right letter, or the next one."""
    assert of.correct is not None
    option = of.correct if right else (of.correct + 1) % len(OPTIONS)
    return said(of, OPTION_LETTERS[option], option)


def failed(of: Question, status: Status = Status.OUT_OF_MEMORY) -> AnswerRow:
    return said(of, "", None, status)
