"""Rubrics in their authors' words: the messages as published, to the space, and the replies that these ask for.

A digest here may change only with a text that was compared with its source, which the rubric's YAML names.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from judge_cases import WRONG, given, graded, made
from misbehaving import completion, misbehaving, says

from pipeline.artefacts.rows import GradeRow, from_line, to_line
from pipeline.domain import Frame, Status, SubtitleLine
from pipeline.identity import digest
from pipeline.judging.evidence import Evidence
from pipeline.judging.rubrics import Rubric
from pipeline.judging.stage import graded_by

URL = "http://h/v1"
ANSWER = 'a {reference}\n"dog\'s"'
POINTS = ("He's waving", "She leaves")
INDENT, END = "\n" + " " * 28, "\n" + " " * 24
MLVU_ASKS = (
    f"{INDENT}Please score the respondent's answer according to the steps in the Instructions. You must end with a "
    "JSON dict to store the scores."
)
MESSAGES = {
    "mlvu summary": (
        "8cb1f64fa7db09f7dd8eefc8dbef049d",
        f"{MLVU_ASKS}{INDENT}Standard Answer: the dog{INDENT}Respondent's Answer: {ANSWER}{END}",
    ),
    "mlvu scene": (
        "74f3d38e6e1e73a80a76d3e81e8f503b",
        f"{MLVU_ASKS}{INDENT}Question: Who barks?{INDENT}Scoring Points: [\"He's waving\", 'She leaves']"
        f"{INDENT}Respondent's Answer: {ANSWER}{END}",
    ),
    "cg_bench": (
        "bb479e1b8aae44738de32dd73e65904f",
        "The choice is either 0, 1, or 2 as specified above.Question: Who barks?\n\nThe ground truth answer is "
        f"'the dog'\n\nThe model's prediction is '{ANSWER}'\n\n",
    ),
    "videoeval_pro": (
        "ead648e7f1ae436f8ced5e785e616b6d",
        f"\n```\nQuestion:Who barks? \nGoldtarget:the dog \nPredictedanswer:{ANSWER} \n``` \nGrade the predicted "
        'answer ofthe question as one of: A: CORRECT B: INCORRECT C: NOT_ATTEMPTED Just return the letter "A", '
        '"B", or "C", with no text around it.',
    ),
    "mmvu": (
        "2e29497656c1c28c2d715aa7ff9558f5",
        f"Question: Who barks?\n\nGround Truth Answer: the dog\n\nModel Response to the Question: {ANSWER}",
    ),
}
"""By rubric and task: the digest of all messages, and how the last one ends."""


@pytest.mark.parametrize("case", MESSAGES)
def test_messages_are_those_of_the_authors(case: str) -> None:
    whole, end = MESSAGES[case]
    rubric = made(URL, case.partition(" ")[0]).rubric
    answer = given(ANSWER, scoring_points=POINTS if case == "mlvu scene" else ())
    messages = rubric.wording(answer.question).messages(answer, is_again=False)
    has_system = rubric.name in ("mlvu", "mmvu")
    assert [each["role"] for each in messages] == (["system", "user"] if has_system else ["user"])
    assert messages[-1]["content"].endswith(end)
    assert digest(messages) == whole


def test_cg_benchs_second_message_has_frames_then_times_and_the_subtitles_at_them() -> None:
    look = made(URL, "cg_bench").rubric.look
    assert look is not None
    frames = [Frame(time, 0, np.zeros((2, 2, 3), np.uint8)) for time in (61.0, 2.5, 1001 / 30)]
    seen = Evidence(frames, (SubtitleLine(60.02, 61.5, "Who is it?"), SubtitleLine(2.0, 3.0, "A {question}.")))
    (message,) = look.messages(given(ANSWER), [{"type": "image_url"}] * 3, seen, is_again=False)
    *images, told = message["content"]
    assert len(images) == 3
    assert told["text"].endswith(
        "as specified above.The subtitles of the video are as follows:\n\n[60.02, 61.5] Who is it?\n[2.0, 3.0] A "
        "{question}.\n\nA total of 3 frames are sampled. Their corresponding timestamps are:\n\n61.0, 2.5, 33.3667\n\n"
        f"Question: Who barks?\n\nThe model's prediction is '{ANSWER}'\n\n"
    )
    assert digest(message) == "0a4b3a5b9b33b17c1f38ed9b6677ad5c"
    (without,) = look.messages(given(ANSWER), [], Evidence(frames, ()), is_again=False)
    assert "as specified above.A total of 3 frames" in without["content"]


@pytest.mark.parametrize("name", ["mlvu", "cg_bench", "videoeval_pro", "mmvu"])
def test_a_changed_word_is_another_version_which_is_not_the_authors(name: str) -> None:
    judge = made(URL, name)
    rubric = judge.rubric
    assert judge.notes[0] == f"the rubric's words (version {rubric.version}) are its authors'"
    key = given().key(judge.identity())
    for changed in _changed(rubric):
        other = replace(judge, rubric=changed)
        assert given().key(other.identity()) != key
        assert graded_by(other, ()).stem != graded_by(judge, ()).stem
        assert f"(version {changed.version}) are changed from its authors' ({rubric.version})" in other.notes[0]


def _changed(rubric: Rubric) -> list[Rubric]:
    """The rubric with one more space in each of its texts in turn."""
    found = []
    for place in ("words", "with_points", "look"):
        wording = getattr(rubric, place)
        for text in ("system", "user", "again", "subtitles", "line"):
            if getattr(wording, text, None) is not None:
                other = replace(wording, **{text: getattr(wording, text) + " "})
                found.append(replace(rubric, **{place: other}))
    assert len(found) >= 2
    return found


def test_notes_name_what_is_not_as_published() -> None:
    assert made(URL, "mmvu", model="gpt-4o", temperature=1.0).notes == made(URL, "mmvu").notes[:1]
    assert made(URL, "mmvu").notes[1:] == [
        "not the published judge, gpt-4o",
        "a temperature 0 and not the published 1",
    ]
    (ours,) = made(URL).notes
    assert ours.endswith("are no benchmark's own, and no published figure is by them")


SCENE = "Points: 3, 5.\n\n```json\n{'score_accuracy': 3.67, 'score_relevance': 4, 'total_score': 7.67}\n```"


@pytest.mark.parametrize(
    ("rubric", "reply", "score"),
    [
        ("mlvu scene", SCENE, 7.67),
        ("mlvu scene", SCENE.replace("'", '"'), 7.67),
        ("mlvu scene", SCENE.replace("4,", "6,"), None),
        ("mlvu scene", SCENE.replace("3.67", "score_acc"), None),
        ("mlvu scene", SCENE.replace("'score_accuracy': 3.67, ", ""), None),  # 0 in the published script
        ("mlvu scene", "score_accuracy: 4, score_relevance: 4, total_score: 8", None),
        ("mlvu", "Good.\n{'score_completeness': 2, 'score_reliability': 5, 'total_score': 7}", 7.0),
        ("mlvu", SCENE, None),  # of the other task
        ("cg_bench", '```json\n{"result": 1}\n```', 1.0),
        ("cg_bench", '```json\n{"result": 0}\n```', 0.0),
        ("cg_bench", '```json\n{"result": 3}\n```', None),
        ("cg_bench", "```json\n{result: 1}\n```", None),
        ("cg_bench", "In 10 % of cases", None),  # 1 in the published script, which takes the first digit
        ("videoeval_pro", "A", 1.0),
        ("videoeval_pro", "B", 0.0),
        ("videoeval_pro", "C", 0.0),
        ("videoeval_pro", "CORRECT", 1.0),  # wrong in the published script, which reads the first letter
        ("videoeval_pro", "NOT ATTEMPTED", 0.0),
        ("videoeval_pro", "Although it is wrong", None),  # right in the published script
        ("mmvu", '{"extracted_answer": "dog", "correct": true}', 1.0),
        ("mmvu", '{"extracted_answer": "", "correct": false}', 0.0),
        ("mmvu", '{"extracted_answer": "dog"}', None),
        ("mmvu", "true", None),
    ],
)
def test_a_reply_in_the_published_form_is_a_score_and_any_other_none(
    rubric: str, reply: str, score: float | None
) -> None:
    name, *task = rubric.split()
    with misbehaving([says(completion(reply)), says(completion(reply))]) as (url, heard):
        (grade,) = graded(made(url, name), given(scoring_points=POINTS if task else ()))
    assert grade.score == (None if score is None else pytest.approx(score))
    assert grade.status is (Status.UNREADABLE_VERDICT if score is None else Status.OK)
    # A schema of MLVU's and CG-Bench's objects would leave no room for the prose, or the fence, that they ask for.
    assert [("response_format" in body) for body in heard.bodies] == [name == "mmvu"] * len(heard.bodies)


def test_a_row_holds_the_rubric_and_the_version_of_its_words() -> None:
    with misbehaving([says(completion(WRONG))]) as (url, _):
        judge = made(url)
        (grade,) = graded(judge)
    assert grade.rubric == f"general {judge.rubric.version}"
    row = GradeRow("k", given().question, "d", grade)
    assert from_line(GradeRow, to_line(row), "f:1", {"q": row.question}) == row
    earlier = to_line(row).replace(f'"rubric":"{grade.rubric}",'.encode(), b"")
    assert from_line(GradeRow, earlier, "f:1", {"q": row.question}) == replace(row, grade=replace(grade, rubric=""))
