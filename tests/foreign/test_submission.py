from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import gens

from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.rows import AnswerRow, to_line
from pipeline.domain import Answer, Question, Status
from pipeline.errors import ConfigError, InputError
from pipeline.foreign.submission import SubmissionForm

FIVE = ("a", "b", "c", "d", "e")
ASKED = [
    Question("AR_0", "/v/1.mp4", "What is odd?", (*FIVE, "f"), None, {"task": "anomaly_reco"}),
    Question("NQA_1", "/v/2.mp4", "What is on the hill?", (*FIVE, "f"), None, {"task": "needle"}),
    Question("NQA_2", "/v/3.mp4", "What is on the tree?", (*FIVE, "f"), None, {"task": "needle"}),
]
SAID = [("The answer is (B).", 1, Status.OK), ("F", 5, Status.OK), ("I think so", None, Status.UNPARSED)]


def row(question: Question, text: str, option: int | None, status: Status) -> AnswerRow:
    return AnswerRow("key", "uniform", "qwen", question, Answer(question.id, text, option, status))


ROWS = [row(question, *said) for question, said in zip(ASKED, SAID, strict=True)]


def form(layout: Any, missing: Any = None, complete: dict[str, int] | None = None) -> SubmissionForm:
    return SubmissionForm(layout, missing, complete)


def test_mlvu_has_its_own_names_of_tasks() -> None:
    written = json.loads(form("mlvu_test", "C").samples(ROWS, ASKED))
    assert written == [
        {"question_id": "AR_0", "question_type": "anomaly_reco", "option": "B"},
        {"question_id": "NQA_1", "question_type": "needleQA", "option": "F"},
        {"question_id": "NQA_2", "question_type": "needleQA", "option": "C"},
    ]


def test_lmms_evals_form_of_longvideobench_holds_the_text_as_it_came() -> None:
    written = json.loads(form("longvideobench_lmms_eval").samples(ROWS, ASKED))
    assert written == {"AR_0": "The answer is (B).", "NQA_1": "F", "NQA_2": "I think so"}
    gap = form("longvideobench_lmms_eval", "").samples(ROWS[:2], ASKED)
    assert json.loads(gap)["NQA_2"] == ""


def test_egoschema_takes_indices() -> None:
    assert json.loads(form("egoschema", 4).samples(ROWS, ASKED)) == {"AR_0": 1, "NQA_1": 5, "NQA_2": 4}


@pytest.mark.parametrize(("layout", "missing"), [("mlvu_test", "A"), ("egoschema", "0")])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:2]])
def test_a_question_without_an_answer_is_named_and_refused(layout: str, missing: str, rows: list[AnswerRow]) -> None:
    with pytest.raises(InputError) as error:
        form(layout).samples(rows, ASKED)
    assert "1 of 3 questions have no answer, and the file has no blank: NQA_2" in error.value.problem
    assert f"form.missing={missing}" in error.value.remedy
    assert form(layout).filled(rows, ASKED) == ("NQA_2",)


def test_a_part_of_a_set_is_refused() -> None:
    with pytest.raises(InputError, match="asks 3 questions, and the set of layout egoschema has 5031") as error:
        form("egoschema", 0, {"egoschema": 5031}).samples(ROWS, ASKED)
    assert "form.complete=null" in error.value.remedy


def test_questions_of_another_benchmark_are_refused() -> None:
    free = Question("sub_0", "/v/1.mp4", "Say it.", groups={"task": "sub_scene"})
    with pytest.raises(InputError, match="the question 'sub_0' is none of those"):
        form("mlvu_test", "A").samples(ROWS, [*ASKED, free])
    bare = Question("u-1", "/v/1.mp4", "What?", FIVE)
    with pytest.raises(InputError, match="the question 'u-1' is none of those"):
        form("mlvu_test", "A").samples([], [bare])


@pytest.mark.parametrize(
    ("layout", "missing", "problem"),
    [
        ("mlvu", None, "form.layout=mlvu:"),
        ("mlvu_test", "AB", "form.missing=AB is no letter"),
        ("mlvu_test", 0, "form.missing=0 is no letter"),
        ("egoschema", "A", "form.missing=A is no option"),
        ("egoschema", 5, "form.missing=5 is no option"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(layout: str, missing: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        form(layout, missing)


def test_the_command_writes_the_file_and_names_what_it_filled(tmp_path: Path) -> None:
    write_questions(ASKED, tmp_path)
    (tmp_path / "answers.jsonl").write_bytes(b"".join(map(to_line, ROWS[:2])))
    words = ("export", f"answers={tmp_path}", "form=submission", "form.layout=mlvu_test")
    done = gens(*words, "form.missing=A", cwd=tmp_path)
    assert done.returncode == 1
    assert "1 questions have no answer, and form.missing stands for them: NQA_2" in done.stdout
    assert [each["option"] for each in json.loads((tmp_path / "answers.submission.json").read_text())] == [
        "B",
        "F",
        "A",
    ]
    refused = gens("export", f"answers={tmp_path}", "form=submission", cwd=tmp_path)
    assert refused.returncode == 2
    assert "form.layout=mlvu_test" in refused.stderr
