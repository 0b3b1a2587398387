from __future__ import annotations

import math
from pathlib import Path

import pytest
from answer_rows import answered, failed, question
from scipy import stats

from pipeline.artefacts.rows import AnswerRow
from pipeline.benchmarks.comparison import Comparison, by_group, common_questions, compare, same_questions
from pipeline.benchmarks.subsets import read_ids
from pipeline.domain import Question
from pipeline.errors import InputError

ASKED = [question(f"q{i}", video=f"v{i // 2}", task="count" if i < 4 else "order") for i in range(10)]
FIRST = [True, True, False, False, False, False, True, False, False, True]
SECOND = [True, False, True, True, True, False, True, True, False, True]


def rows(right: list[bool], sampler: str = "gens") -> list[AnswerRow]:
    found = [answered(each, is_right) for each, is_right in zip(ASKED, right, strict=True)]
    return [AnswerRow(row.key, sampler, row.answerer, row.question, row.answer) for row in found]


@pytest.fixture
def compared() -> Comparison:
    return compare(rows(FIRST, "uniform"), rows(SECOND), ASKED)


def test_the_difference_and_the_questions_that_flipped(compared: Comparison) -> None:
    assert compared.difference == pytest.approx(0.3)
    assert [each.id for each in compared.gained] == ["q2", "q3", "q4", "q7"]
    assert [each.id for each in compared.lost] == ["q1"]
    assert (compared.both_right, compared.both_wrong, compared.questions) == (3, 2, 10)
    assert (compared.first.overall.correct, compared.second.overall.correct) == (4, 7)


def test_the_interval_is_of_the_paired_differences_by_video(compared: Comparison) -> None:
    # Differences summed by video less twice the mean 0.3: -1, 2, 1, 1, 0 and so -1.6, 1.4, 0.4, 0.4, -0.6.
    summed = 1.6**2 + 1.4**2 + 0.4**2 + 0.4**2 + 0.6**2
    margin = float(stats.t.ppf(0.975, 4)) * math.sqrt(summed / 100 * 5 / 4)
    assert compared.interval is not None
    assert (compared.interval.low, compared.interval.high) == pytest.approx((0.3 - margin, 1.0))  # cut at 1


def test_the_test_is_the_exact_one(compared: Comparison) -> None:
    # Five flips, one of them against: 2 * (C(5,0) + C(5,1)) / 2^5.
    assert compared.p_value == pytest.approx(2 * 6 / 32)
    unchanged = compare(rows(FIRST), rows(FIRST), ASKED)
    assert (unchanged.p_value, unchanged.difference, unchanged.interval) == (1.0, 0.0, None)
    even = compare(rows([True, False] * 5), rows([False, True] * 5), ASKED)
    assert even.p_value == 1.0


def test_a_group_is_compared_like_the_whole(compared: Comparison) -> None:
    groups = by_group(compared, "task")
    assert list(groups) == ["count", "order"]
    assert (groups["count"].first, groups["count"].second, groups["count"].questions) == (0.5, 0.75, 4)
    assert groups["order"].difference == pytest.approx(2 / 6)
    assert groups["count"].interval is not None
    assert by_group(compared, "no such label") == {}


def test_what_failed_or_is_missing_is_wrong_in_its_run() -> None:
    pair = ASKED[:2]
    found = compare([answered(pair[0], True), failed(pair[1])], [failed(pair[0])], pair)
    assert [each.id for each in found.lost] == ["q0"]
    assert found.both_wrong == 1
    assert found.second.statuses == {"out_of_memory": 1, "missing": 1}


def test_questions_without_a_known_answer_are_in_neither() -> None:
    asked = [question("open", correct=None), question("a")]
    found = compare([answered(asked[1], True)], [], asked)
    assert (found.questions, found.difference) == (1, -1.0)
    nothing = compare([], [], asked[:1])
    assert (nothing.difference, nothing.p_value, nothing.interval) == (None, None, None)


def test_runs_over_different_questions_are_refused_with_the_numbers() -> None:
    with pytest.raises(InputError) as error:
        same_questions(ASKED[:6], ASKED[4:])
    assert "6 in the first, 6 in the second, 2 in both" in error.value.problem
    assert "questions=common" in error.value.remedy
    assert common_questions(ASKED[:6], ASKED[4:]) == tuple(ASKED[4:6])
    assert same_questions(ASKED, ASKED[::-1]) == tuple(ASKED)


def test_runs_without_a_common_question_are_refused() -> None:
    with pytest.raises(InputError, match="no question in common: 2 in the first, 8 in the second"):
        common_questions(ASKED[:2], ASKED[2:])


def test_one_id_for_two_questions_is_refused_and_a_moved_video_is_not() -> None:
    moved = [Question(each.id, "/elsewhere/v.mp4", each.text, each.options, each.correct) for each in ASKED]
    assert same_questions(ASKED, moved) == tuple(ASKED)
    corrected = [question("q0", correct=2, video="v0", task="count"), *ASKED[1:]]
    with pytest.raises(InputError, match="'q0' is another one in the second run"):
        common_questions(ASKED, corrected)


def test_a_subset_is_a_list_of_ids_in_either_form(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("q0\r\nq2\n\nq9\n")
    (tmp_path / "ids.json").write_text('["q0", "q2", "q9"]')
    known = {each.id for each in ASKED}
    ids = read_ids(tmp_path / "ids.txt", "subset", known)
    assert ids == read_ids(tmp_path / "ids.json", "subset", known) == {"q0", "q2", "q9"}
    part = [each for each in ASKED if each.id in ids]
    assert compare(rows(FIRST), rows(SECOND), part).questions == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x\nq1\ny\n", "2 of 3 ids are of no question here: 'x', 'y'"),
        ("q0\nq0\n", "not a list of ids, each once"),
        ('[{"id": "q0"}]', "not a list of ids"),
        (None, "no file"),
    ],
)
def test_a_subset_that_is_none_is_refused(tmp_path: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / "ids.txt").write_text(text)
    with pytest.raises(InputError, match=problem) as error:
        read_ids(tmp_path / "ids.txt", "subset", {each.id for each in ASKED})
    assert "subset=" in error.value.remedy
