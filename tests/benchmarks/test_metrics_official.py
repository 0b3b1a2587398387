"""Every rule by which others count, over answers that it counts in its own way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from answer_rows import answered, failed, question, said

from pipeline.artefacts.rows import AnswerRow
from pipeline.benchmarks.metrics import MISSING, Accuracy, Credit, Tally, accuracy
from pipeline.benchmarks.official import OfficialRule, official_value, rules_for
from pipeline.benchmarks.official_rules import (
    lmms_eval_option,
    longvideobench_option,
    mlvu_option,
    video_mme_option,
)
from pipeline.domain import Question, Status


def official_accuracy(rows: Sequence[AnswerRow], questions: Sequence[Question], rule: OfficialRule) -> Accuracy:
    answers = {row.question.id: row.answer for row in rows}
    return Accuracy(
        tuple(
            Credit(question, answer.status.value if answer else MISSING, official_value(question, answer, rule))
            for question in questions
            for answer in [answers.get(question.id)]
        )
    )


def official(benchmark: str) -> OfficialRule:
    return rules_for(benchmark)[0]


def lmms_eval(benchmark: str) -> OfficialRule:
    return rules_for(benchmark)[1]


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("C", 2),
        ("The answer is B", 1),
        ("The best answer is D.", 3),
        ("Best answer: C", 2),
        ("Based on the frames it is C", 1),  # the B of "Based"
        ("the answer is c", None),
        ("E", 4),
        ("", None),
        ("it was on the table next to the lamp and the red book", None),
        ("(A) or (D)", 0),
    ],
)
def test_longvideobench_takes_the_first_capital_after_the_stock_phrases(text: str, option: int | None) -> None:
    assert longvideobench_option(text) == option


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("The answer is C.", 2),
        ("Best answer: C", 1),  # the script's missing comma leaves "Best"
        ("Best option: D", 1),
        ("The best option is D", 3),
        ("E", None),
        ("none", None),
    ],
)
def test_video_mme_keeps_the_phrases_that_its_missing_commas_joined(text: str, option: int | None) -> None:
    assert video_mme_option(text) == option


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B) red", 1),
        ("(B) red", 1),
        ("B", 1),
        (" D", None),  # the script compares as it stands
        ("D\n", None),
        ("D )", None),
        (" D) red", 3),
        ("F) red", 5),
        ("B) red, not (C)", 1),  # the first bracket decides
        ("B.", None),
        ("Best option: (C) because", 2),
        ("I think (b)", None),
        (")", None),
        ("red", None),
        ("", None),
    ],
)
def test_mlvu_takes_the_letter_before_the_bracket(text: str, option: int | None) -> None:
    assert mlvu_option(text) == option


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B", 1),
        ("B. red", 1),
        ("Based on (C), it is so", 2),  # B and A are part of words, and (C) is a form
        ("I choose D, not A", 0),  # it ends in a letter that stands alone, which comes before phrases
        ("The answer is C because B. is wrong", 1),  # every letter behind the phrase is a candidate, the last wins
        ("(A) is red, (B) is blue", 1),  # the last of a form
        ("A) but also D)", 0),  # it starts with a letter that stands alone
        ("So: B) and also D) here", 3),
        ("DNA shows", 0),  # "A " is a form too
        ("seen in BCD", 3),  # anywhere: the last
        ("A is what I see, not B", 0),  # the start comes before the end
        ("Seen first: A. So it is B", 1),  # the end comes before all forms in between
        ("The answer is B, not A or B", 1),  # and before the last letter behind a phrase
        ("A frame, then B", 0),
        ("Dogs and Cats", 2),  # anywhere, within words: the last
        ("'C'", 2),
        ("red", None),
        ("  ", None),
        ("E", None),
        ("<think>So C. But look again.</think> B", 1),
        ("So C. But look again.</think> B", 1),  # the prompt held the opening tag
        ("<analysis>A?</analysis>\nB", 1),
        ("<analysis>B?</analysis> red", None),
        ("<think>A</think> B <think>C</think>", 1),
        ("<THINK>A</THINK> B", 1),
        ("<think>The answer is C. Wait", 2),  # never closed: lmms-eval grades the thought
    ],
)
def test_lmms_eval_ranks_the_forms_of_a_letter(text: str, option: int | None) -> None:
    assert lmms_eval_option(text) == option


def test_lmms_eval_removes_reasoning_where_longvideobench_keeps_it() -> None:
    thoughtful = question("q", correct=1)
    row = said(thoughtful, "<think>A square? C?</think>\nB", 1)
    assert official_accuracy([row], [thoughtful], lmms_eval("longvideobench")).overall == Tally(1, 1)
    assert official_accuracy([row], [thoughtful], official("longvideobench")).overall == Tally(0, 1)


def test_thoughts_without_an_answer_are_an_unreadable_answer_and_no_silence() -> None:
    asked = [question("q")]
    row = said(asked[0], "", None, Status.TRUNCATED_OUTPUT)
    assert official_accuracy([row], asked, official("longvideobench")).drawn == 1
    assert official_accuracy([row], asked, official("lvbench")).overall == Tally(0, 1)


ASKED = [question(f"q{i}", video=f"v{i}") for i in range(8)]
ROWS = [
    answered(ASKED[0], right=True),
    answered(ASKED[1], right=False),
    said(ASKED[2], "nobody knows", None, Status.UNPARSED),
    said(ASKED[3], "", None, Status.EMPTY_ANSWER),
    failed(ASKED[4]),
    said(ASKED[5], "Answer it I cannot", None, Status.REFUSED),
    said(ASKED[6], "(A) red, or so it seems", 0),
    # q7 has no row
]


def test_strict_counts_every_question_that_was_asked() -> None:
    assert accuracy(ROWS, ASKED).overall == Tally(2, 8)


def test_longvideobench_counts_a_draw_by_its_expected_value_and_says_how_often() -> None:
    counted = official_accuracy(ROWS, ASKED, official("longvideobench"))
    # q0, q6, the A of "Answer" in q5, and a quarter each for q2 and q3, of which nothing can be read.
    assert counted.overall == Tally(3.5, 8)
    assert (counted.drawn, counted.left_out) == (2, 0)
    three = Question("three", "v.mp4", "?", ("x", "y", "z"), 0)
    drawn = official_accuracy([said(three, "?")], [three], official("longvideobench"))
    assert drawn.overall.correct == pytest.approx(1 / 3)
    # The E that such a question has no option for is a wrong answer, not a draw.
    assert official_accuracy([said(three, "E")], [three], official("longvideobench")).overall == Tally(0, 1)


def test_video_mme_leaves_out_what_it_cannot_read() -> None:
    counted = official_accuracy(ROWS, ASKED, official("videomme"))
    assert counted.overall == Tally(3, 4)  # q0, q5, q6 right, q1 wrong
    assert counted.left_out == 4
    assert counted.statuses == accuracy(ROWS, ASKED).statuses


def test_lvbench_leaves_out_what_has_no_answer_and_counts_what_cannot_be_read() -> None:
    counted = official_accuracy(ROWS, ASKED, official("lvbench"))
    assert counted.overall == Tally(2, 6)
    assert counted.left_out == 2  # out of memory, and no row


def test_mlvu_and_hourvideo_count_all_and_average_over_tasks() -> None:
    assert official_accuracy(ROWS, ASKED, official("mlvu")).overall == Tally(2, 8)
    asked = [question("a", task="look"), question("b", task="look"), question("c", task="walk")]
    rows = [answered(asked[0], right=True), answered(asked[1], right=True)]
    rule = official("hourvideo")
    counted = official_accuracy(rows, asked, rule)
    assert counted.overall == Tally(2, 3)
    assert rule.mean_over == "task"
    assert counted.mean_over("task") == 0.5  # a task without a file is 0, and weighs like the other
    assert counted.mean_over("no such label") is None


def test_lmms_eval_counts_what_it_cannot_read_as_wrong_where_video_mme_leaves_it_out() -> None:
    counted = official_accuracy(ROWS, ASKED, lmms_eval("videomme"))
    assert counted.overall == Tally(3, 8)
    assert lmms_eval("longvideobench").read is not lmms_eval("mlvu").read
    assert "left out" not in lmms_eval("videomme").about


def test_a_rule_is_found_by_the_name_of_the_benchmark() -> None:
    assert [rule.name for rule in rules_for("mlvu")] == ["MLVU", "lmms-eval"]
    assert rules_for("mlvu_test") == rules_for("mlvu")
    assert [rule.name for rule in rules_for("hourvideo")] == ["HourVideo"]
    assert rules_for("jsonl") == ()
    assert rules_for("mlvuish") == ()


def test_a_question_without_a_known_answer_is_counted_by_no_rule() -> None:
    open_question = question("open", correct=None)
    counted = official_accuracy([said(open_question, "A", 0)], [open_question], official("longvideobench"))
    assert counted.overall == Tally(0, 0)
    assert (counted.not_counted, counted.left_out) == (1, 0)
