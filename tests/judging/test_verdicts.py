"""What counts as a verdict: exactly what was asked for, the last where there are several, and nothing by accident."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import ConfigError
from pipeline.judging import Scale
from pipeline.judging.verdicts import ChoiceVerdict, LetterVerdict, ScoresVerdict, Verdict, objects

LETTERS = LetterVerdict({"A": "CORRECT", "B": "INCORRECT", "C": "NOT_ATTEMPTED"}, ("A",))
CORRECT = ChoiceVerdict("correct", {"true": 1.0, "false": 0.0}, ("reason",), True)
STEP = ChoiceVerdict("result", {"0": 0.0, "1": 1.0, "2": None}, (), False)
SCORES = ScoresVerdict(("reason",), ("score_accuracy", "score_relevance"), 1.0, 5.0, True)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("A", 1.0),
        (" b.", 0.0),
        ("**C**", 0.0),
        ("(A)", 1.0),
        ("A: CORRECT", 1.0),
        ("INCORRECT", 0.0),
        ("Not attempted", 0.0),
        ("CORRECT (A)", 1.0),
        ("Grade: B", 0.0),
        ("It names the dog, as the target does.\n\nA", 1.0),
        ("A: INCORRECT", None),  # contradicts itself
        ("A or B", None),
        ("A correct answer would name the dog", None),
        ("A\nBut I may be wrong.", None),
        ("D", None),
        ("", None),
    ],
)
def test_a_letter_stands_alone_in_the_last_line(text: str, score: float | None) -> None:
    found = LETTERS.read(text)
    assert (found and found.score) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"reason": "same", "correct": true}', 1.0),
        ('```json\n{"correct": false}\n```', 0.0),
        ('{"correct": "True"}', 1.0),
        ("{'correct': True}", 1.0),  # as Python writes it
        ('At first {"correct": true}, but the colour differs: {"correct": false}. Done.', 0.0),
        ('{"correct": false, "example": {"correct": true}}', 0.0),  # what is within an object is no verdict
        ('{"correct": true} {"note": "done"}', 1.0),
        ('{"correct": 1}', None),
        ('{"correct": null}', None),
        ("The answer is correct.", None),
        ('{"correct": tr', None),
        ("{" * 5000, None),
    ],
)
def test_the_last_valid_object_is_the_verdict(text: str, score: float | None) -> None:
    found = CORRECT.read(text)
    assert (found and found.score) == score


def test_a_step_may_ask_to_see_the_video_and_no_digit_in_prose_counts() -> None:
    found = STEP.read('{"result": 2}')
    assert found is not None
    assert found.score is None
    assert STEP.read("0 (10 %)") is None  # read as right where any 1 is
    assert STEP.read('{"result": 3}') is None
    assert STEP.scale == Scale(0.0, 1.0)


def test_two_scores_are_added_and_a_stated_total_is_not_read() -> None:
    found = SCORES.read(
        "The key 'score_accuracy': 1 was weighed.\n{'score_accuracy': 3.67, 'score_relevance': 4, 'total_score': 9}"
    )
    assert found is not None
    assert found.score == pytest.approx(7.67)
    assert dict(found.parts) == {"score_accuracy": 3.67, "score_relevance": 4.0}
    assert SCORES.scale == Scale(2.0, 10.0)
    for wrong in (
        '"x": 1',
        '"score_relevance": 0',
        '"score_relevance": 6',
        '"score_relevance": true',
        '"score_relevance": NaN',
    ):
        assert SCORES.read(f'{{"score_accuracy": 3, {wrong}}}') is None


def test_a_value_that_is_a_word_stands_for_itself() -> None:
    words = ChoiceVerdict("correct", {"yes": 1.0, "no": 0.0}, (), True)
    assert words.schema()["properties"] == {"correct": {"type": "string", "enum": ["yes", "no"]}}
    assert words.read('{"correct": "Yes"}') == Verdict(1.0, {})


def test_schemas_hold_all_fields_and_no_others() -> None:
    schema = CORRECT.schema()
    assert schema["properties"] == {"reason": {"type": "string"}, "correct": {"type": "boolean"}}
    steps = replace(STEP, alone=True).schema()
    assert steps["properties"] == {"result": {"type": "integer", "enum": [0, 1, 2]}}
    assert (schema["required"], schema["additionalProperties"]) == (["reason", "correct"], False)
    assert list(SCORES.schema()["properties"]) == ["reason", "score_accuracy", "score_relevance"]
    assert (LETTERS.schema(), LETTERS.choices(), CORRECT.choices()) == (None, ("A", "B", "C"), None)
    # Where prose or a fence goes with the object, a schema would keep the judge from writing it.
    assert (STEP.schema(), replace(SCORES, alone=False).schema()) == (None, None)


def test_objects_come_last_first() -> None:
    assert objects('x {"a": 1} y {"b": {"c": 2}} z {d') == [{"b": {"c": 2}}, {"a": 1}]


def test_a_form_that_decides_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="tell nothing apart"):
        LetterVerdict({"A": "CORRECT"}, ("A",))
    with pytest.raises(ConfigError, match="no two scores"):
        ChoiceVerdict("correct", {"true": 1.0, "false": None}, (), True)
