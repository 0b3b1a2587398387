"""Judges without a model, and how far two judges agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.benchmarks.agreement import weighted_kappa
from pipeline.domain import Question, Status
from pipeline.errors import ConfigError, InputError
from pipeline.judging import GivenAnswer, Judge
from pipeline.judging.rules import GivenGrades, TextRule, normal
from pipeline.video import Reader

READER = Reader(name="default", backend="auto", threads=1, image_fps=1.0)
EXACT = TextRule("exact", "equal", None)
CONTAINS = TextRule("contains", "contains", None)
REGEX = TextRule("regex", "pattern", r"(?i)\b{reference}\b")


def score(judge: Judge, answer: str, reference: str) -> float | None:
    (grade,) = judge.grade([GivenAnswer(Question("q", "v.mp4", "What?", reference=reference), answer)], READER)
    return grade.score


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "contains", "regex"),
    [
        ("The red car.", "red car", 1, 1, 1),
        ("A RED  car", "red car", 1, 1, 0),
        ("It is the red car over there", "Red car", 0, 1, 1),
        ("the redcar", "red car", 0, 0, 0),
        ("a scar", "car", 0, 0, 0),  # whole words
        ("-3", "3", 0, 0, 1),  # the sign of a number is part of it
        ("3.5 metres", "3", 0, 0, 1),
        ("ﬁsh", "fish", 1, 1, 0),  # NFKC
        ("C", "C++", 0, 0, 0),
        ("5%", "5 %", 1, 1, 0),
        ("anything", ".*", 0, 0, 0),  # the reference is no pattern
    ],
)
def test_rules_compare_words(answer: str, reference: str, exact: float, contains: float, regex: float) -> None:
    found = [score(judge, answer, reference) for judge in (EXACT, CONTAINS, REGEX) if normal(reference)]
    assert found == [exact, contains, regex][: len(found)]


def test_nothing_is_right_for_want_of_a_reference() -> None:
    """An empty text is contained in every other."""
    for reference in ("", "  ", "the"):
        question = Question("q", "v.mp4", "What?", reference=reference)
        assert EXACT.lacks(question)
        assert CONTAINS.lacks(question)
    assert REGEX.lacks(Question("q", "v.mp4", "What?"))
    assert TextRule("yes", "pattern", "(?i)^yes").lacks(Question("q", "v.mp4", "What?")) is None


def test_a_pattern_is_checked_before_a_run() -> None:
    with pytest.raises(ConfigError, match="no regular expression"):
        TextRule("regex", "pattern", "(")
    with pytest.raises(ConfigError, match="does not go with"):
        TextRule("exact", "equal", "x")


def grades(folder: Path, *rows: object, highest: float = 1) -> GivenGrades:
    (folder / "anna.json").write_text(json.dumps(rows))
    return GivenGrades("anna", str(folder / "anna.json"), 0, highest)


def test_peoples_grades_are_a_judge_of_their_own(tmp_path: Path) -> None:
    judge = grades(tmp_path, {"id": "q", "score": 1}, {"id": 7, "score": 0})
    judge.check("any")
    assert isinstance(judge, Judge)
    asked = [GivenAnswer(Question(id_, "v.mp4", "What?"), "a") for id_ in ("q", "7", "other")]
    found = list(judge.grade(asked, READER))
    assert [grade.score for grade in found] == [1, 0, None]
    assert found[2].status is Status.NOT_JUDGED
    assert judge.lacks(asked[2].question)
    assert judge.identity() != grades(tmp_path, {"id": "q", "score": 0}).identity()
    with pytest.raises(InputError, match="not on the scale") as error:
        grades(tmp_path, {"id": "q", "score": 2}).check("any")
    assert "judge.highest=2" in error.value.remedy
    with pytest.raises(InputError, match="two scores"):
        grades(tmp_path, {"id": "q", "score": 1}, {"id": "q", "score": 0}).check("any")


def test_kappa_is_cohens_for_two_grades_and_weighs_distance_for_more() -> None:
    # 20 both right, 15 both wrong, 5 and 10 apart: agreement .7, by chance .5.
    first = [1.0] * 20 + [0.0] * 15 + [1.0] * 5 + [0.0] * 10
    second = [1.0] * 20 + [0.0] * 15 + [0.0] * 5 + [1.0] * 10
    assert weighted_kappa(first, second) == pytest.approx(0.4)
    assert weighted_kappa([0, 0.5, 1], [0, 0.5, 1]) == 1
    near, far = weighted_kappa([0, 0.5, 1], [0, 0.6, 1]), weighted_kappa([0, 0.5, 1], [0, 1, 1])
    assert near is not None
    assert far is not None
    assert 1 > near > far
    assert weighted_kappa([1, 1], [1, 1]) is None
    assert weighted_kappa([], []) is None
