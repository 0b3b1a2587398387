from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from answer_rows import said
from faulty import fault_of

from pipeline.artefacts.rows import is_same_question
from pipeline.benchmarks.cgbench import CGBench
from pipeline.benchmarks.metrics import Credit
from pipeline.benchmarks.official import official_value, rules_for
from pipeline.benchmarks.official_rules import WRONG, cgbench_option
from pipeline.domain import AnswerForm, Question, Span, Subtitles
from pipeline.errors import ConfigError, InputError

ROW: dict[str, Any] = {
    "qid": 7,
    "video_uid": "abc",
    "question": "Which colour is the third lid?",
    "answer": "White",
    "choices": ["Grey", "White", "Red", "Blue", "White"],
    "right_answer": "B",
    "clue_intervals": [[60, 62], [8, 11], [61, 70]],
    "domain": "Driving",
    "sub_category": "Entity Perception",
    "duration": 2741,
}


def loader(folder: Path, *rows: Any, task: Any = "choice", count: tuple[int, ...] | None = None) -> CGBench:
    file = folder / "cgbench_mini.json"
    file.write_text(json.dumps(rows))
    return CGBench("cgbench", str(file), None, count, None, None, task)


def test_a_row_is_a_question_whose_clues_are_the_evidence_in_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "cg_subtitles").mkdir()
    (tmp_path / "cg_subtitles" / "abc.srt").touch()
    first, other = loader(tmp_path, ROW, {**ROW, "qid": 8, "video_uid": "BV1r"}).questions()
    assert first == Question(
        id="7",
        video=str(tmp_path / "cg_videos_720p" / "abc.mp4"),
        text="Which colour is the third lid?",
        options=("Grey", "White", "Red", "Blue", "White"),  # two of them the same
        correct=1,
        groups={"domain": "Driving", "sub_category": "Entity Perception", "duration_group": "30-60 min"},
        evidence=(Span(8, 11), Span(60, 62), Span(61, 70)),
        subtitles=Subtitles(str(tmp_path / "cg_subtitles" / "abc.srt")),
    )
    assert other.subtitles is None  # not every video has them
    assert loader(tmp_path, ROW).durations() == {first.video: 2741.0}


def test_the_three_tasks_ask_three_questions_of_one_row(tmp_path: Path) -> None:
    (choice,), (intervals,), (words,) = (
        loader(tmp_path, ROW, task=task).questions() for task in ("choice", "intervals", "open")
    )
    assert (choice.answer_form, choice.correct) == (AnswerForm.WORDS, 1)
    assert (intervals.answer_form, intervals.correct) == (AnswerForm.INTERVALS, None)
    assert intervals.options == choice.options  # shown
    assert (words.options, words.correct, words.reference) == (None, None, "White")
    assert not is_same_question(choice, intervals)
    assert {choice.id, intervals.id, words.id} == {"7"}  # so that the runs can be joined


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"right_answer": "F"}, "the answer 'F' is none of ABCDE"),
        ({"clue_intervals": [[11, 8]]}, "clue_intervals: [11.0, 8.0] is not an interval"),
        ({"clue_intervals": [[8]]}, "clue_intervals: [8.0] is not an interval"),
        ({"clue_intervals": "8-11"}, "clue_intervals"),
    ],
)
def test_a_row_that_is_not_as_published_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    assert problem in fault_of(loader(tmp_path, ROW, {**ROW, "qid": 8, **change}))


def test_rows_that_were_packed_anew_say_which_fields_they_have_and_where_the_published_file_is(tmp_path: Path) -> None:
    packed = {"doc_id": 1, "video": "abc.mp4", "query": "Which?", "gt": "B"}
    with pytest.raises(InputError) as error:
        loader(tmp_path, packed, packed).questions()
    assert "qid: Field required; the entry has 'doc_id', 'video', 'query', 'gt'" in error.value.problem
    assert "no row of 2 can be used" in error.value.problem
    assert "re-packs" in error.value.remedy
    assert "gens download benchmark=cgbench" in error.value.remedy
    unlabelled = {name: value for name, value in ROW.items() if name != "right_answer"}
    with pytest.raises(InputError, match="right_answer: Field required"):  # and no accuracy of nothing
        loader(tmp_path, unlabelled).questions()
    with pytest.raises(InputError, match="holds 1 questions, and the complete benchmark 3000 or 12129"):
        loader(tmp_path, ROW, count=(3000, 12129)).questions()


def test_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"benchmark.task=opn: .* Did you mean 'open'") as error:
        loader(tmp_path, ROW, task="opn")
    assert error.value.remedy == "one of choice, intervals, open"


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ('```json\n{"result": "B"}\n```', 1),
        ('So it is\n```json\n{"result": C}\n```', 2),  # the script quotes a bare word
        ('```json\n{"result": "White"}\n```', WRONG),
        ('```json\n{"answer": "B"}\n```', 1),  # no result: letters of the whole text
        ("A, B, C, D or E", 1),  # naming all of them is right
        ("It is C.", WRONG),
        ("Based on this, white", None),
        ("", None),
    ],
)
def test_the_authors_script_takes_json_or_any_lone_letter(text: str, option: int | None) -> None:
    assert cgbench_option(text, 1) == option


def test_what_cannot_be_read_is_left_out_by_the_authors_and_wrong_for_lmms_eval() -> None:
    asked = Question("7", "v.mp4", "?", ("a", "b", "c", "d", "e"), 1)
    theirs, harness = rules_for("cgbench")
    values = {
        text: tuple(official_value(asked, said(asked, text).answer, rule) for rule in (theirs, harness))
        for text in ("B", "white", "A or B", "C")
    }
    assert values == {"B": (1, 1), "white": (None, 0), "A or B": (1, 0), "C": (0, 0)}
    assert Credit(asked, "missing", official_value(asked, None, theirs)).value is None
