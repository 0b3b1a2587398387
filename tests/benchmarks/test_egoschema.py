from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from answer_rows import said
from faulty import fault_of

from pipeline.benchmarks.egoschema import EgoSchema
from pipeline.benchmarks.official import official_value, rules_for
from pipeline.benchmarks.official_rules import lmms_eval_egoschema_option
from pipeline.domain import Question
from pipeline.errors import ConfigError

CHOICES = ("C folds paper", "C paints", "C cooks", "C reads", "C walks a dog around the big green park")
OFFICIAL: dict[str, Any] = {
    "q_uid": "u-1",
    "google_drive_id": "x",
    "question": "What is C's aim?",
    **{f"option {number}": choice for number, choice in enumerate(CHOICES)},
}
HUB: dict[str, Any] = {
    "video_idx": "u-1",
    "question": "What is C's aim?",
    "option": [f"{letter}. {choice}" for letter, choice in zip("ABCDE", CHOICES, strict=True)],
    "answer": "3",
}


def loader(folder: Path, *rows: Any, part: Any = "all") -> EgoSchema:
    (folder / "questions.json").write_text(json.dumps(rows))
    return EgoSchema("egoschema", str(folder / "questions.json"), None, None, None, part)


def test_the_authors_rows_take_the_answers_that_lie_beside_them(tmp_path: Path) -> None:
    (tmp_path / "subset_answers.json").write_text(json.dumps({"u-1": 3}))
    first, hidden = loader(tmp_path, OFFICIAL, {**OFFICIAL, "q_uid": "u-2"}).questions()
    assert first == Question("u-1", str(tmp_path / "videos" / "u-1.mp4"), "What is C's aim?", CHOICES, 3)
    assert hidden.correct is None
    assert loader(tmp_path, OFFICIAL).durations() == {first.video: 180.0}
    (answered,) = loader(tmp_path, OFFICIAL, {**OFFICIAL, "q_uid": "u-2"}, part="answered").questions()
    assert answered == first


@pytest.mark.parametrize(("answer", "correct"), [("3", 3), (3, 3), ("D", 3), (None, None)])
def test_the_hubs_rows_are_the_same_questions(tmp_path: Path, answer: Any, correct: int | None) -> None:
    (question,) = loader(tmp_path, {**HUB, "answer": answer}).questions()
    assert (question.id, question.options, question.correct) == ("u-1", CHOICES, correct)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({**OFFICIAL, "q_uid": None}, "id"),
        ({"question_id": 1, "question": "?"}, "id: Field required; the entry has 'question_id', 'question'"),
        ({name: value for name, value in OFFICIAL.items() if name != "option 4"}, "option: Field required"),
        ({**HUB, "video_idx": "u-2", "answer": 5}, "option 5 of 5 is right"),
        ({**HUB, "video_idx": "u-2", "answer": "F"}, "the answer 'F' is none of ABCDE"),
    ],
)
def test_a_row_that_is_not_as_published_is_named(tmp_path: Path, row: Any, problem: str) -> None:
    assert problem in fault_of(loader(tmp_path, OFFICIAL, row))


def test_another_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"benchmark.part=subset: EgoSchema has no such part"):
        loader(tmp_path, OFFICIAL, part="subset")


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B", 1),
        ("(C) since he cooks", 2),
        ("A man paints, so B.", 0),  # the article: of several it takes the one whose last place is the earliest
        ("C, then D and D again", 3),  # "C," is no form
        ("i would say it is d. c reads", 3),  # the words of an option with its letter before them
        ("he reads", None),
        ("", None),
    ],
)
def test_lmms_eval_takes_the_article_for_a_letter(text: str, option: int | None) -> None:
    assert lmms_eval_egoschema_option(text, CHOICES) == option


def test_what_lmms_eval_would_draw_counts_by_its_expected_value() -> None:
    asked = Question("u-1", "v.mp4", "?", CHOICES, 3)
    (rule,) = rules_for("egoschema")
    assert official_value(asked, said(asked, "he reads").answer, rule) == pytest.approx(1 / 5)
    assert official_value(asked, None, rule) == pytest.approx(1 / 5)  # an empty reply draws too
