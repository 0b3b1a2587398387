from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefacts.rows import AnswerRow
from pipeline.domain import Answer, Question, Status
from pipeline.errors import InputError
from pipeline.foreign.lmms_eval_samples import LmmsEvalSamplesForm, Samples, read_samples

ASKED = [
    Question("86Cx_0", "/v/a.mp4", "What is shown first?", ("a cat", "a dog", "a cow"), 1, {"duration_group": "600"}),
    Question("86Cx_1", "/v/a.mp4", "What is shown last?", ("a cat", "a dog", "a cow"), 0, {"duration_group": "600"}),
    Question("001-1", "/v/b.mp4", "How many cows?", ("one", "two", "three", "four"), 3),
]
"""As LongVideoBench and Video-MME have them."""
ANOMALY = "Does this footage contain an anomaly?"
MLVU = [
    Question("Q0", "/v/1.mp4", ANOMALY, ("fire", "theft"), 0, {"task": "anomaly_reco"}),
    Question("Q1", "/v/2.mp4", "What is red?", ("car", "bus"), 1, {"task": "plotQA"}),
    Question("Q2", "/v/3.mp4", ANOMALY, ("fire", "theft"), 0, {"task": "anomaly_reco"}),
    Question("Q3", "/v/4.mp4", ANOMALY, ("theft", "fire"), 0, {"task": "anomaly_reco"}),
]
"""Two of its questions have the same words, and another the same options in another order."""


def sample(doc_id: int, said: str, target: str, **metric: dict[str, Any]) -> dict[str, Any]:
    """A row as lmms-eval 0.7 writes it."""
    hashes = {"doc_hash": "d", "prompt_hash": "p", "target_hash": "t"}
    asked = next((each.text for result in metric.values() for each in ASKED if each.id in result.values()), "Who?")
    prompt = f"<image>\n{asked}\nA. ..."
    return {"doc_id": doc_id, "target": target, "filtered_resps": said, **hashes, **metric, "input": prompt}


def mlvu_sample(doc_id: int, said: str, question: Question, target: str = "A") -> dict[str, Any]:
    """The question's words stand in the place of its id."""
    options = "\n".join(f"({'ABCD'[number]}) {option}" for number, option in enumerate(question.options or ()))
    words = f"{question.text}\n{options}\n"
    result = {"question_id": words, "pred_answer": said, "answer": target}
    row = sample(doc_id, said, target, mlvu_percetion_score=result)
    return {**row, "input": f"{words}Only give the best option.\nBest option: ("}


def read(folder: Path, rows: list[dict[str, Any]], questions: list[Question]) -> Samples:
    file = folder / "20260101_samples_task.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_samples(file, questions, "second")


def options(found: Samples) -> dict[str, int | None]:
    return {row.question.id: row.answer.option for row in found.rows}


def test_rows_are_joined_by_the_id_under_the_metric_and_read_by_our_rule(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        [
            sample(7, "B", "1", lvb_acc={"id": "86Cx_0", "parsed_pred": "B"}),
            sample(3, "Based on the frames, I cannot tell", "0", lvb_acc={"id": "86Cx_1", "parsed_pred": "B"}),
            sample(0, "The answer is D.", "D", videomme_perception_score={"question_id": "001-1"}),
        ],
        ASKED,
    )
    assert options(found) == {"86Cx_0": 1, "86Cx_1": None, "001-1": 3}
    assert [row.answer.status for row in found.rows] == [Status.OK, Status.UNPARSED, Status.OK]
    assert {(row.sampler, row.answerer) for row in found.rows} == {("lmms-eval", "20260101_samples_task")}
    assert found.unmatched == ()


def test_thoughts_in_a_samples_file_are_no_answers(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        [
            sample(0, "<think>So A. But look again.</think> B", "1", lvb_acc={"id": "86Cx_0"}),
            sample(1, "<think>The answer is A. But", "0", lvb_acc={"id": "86Cx_1"}),
        ],
        ASKED,
    )
    assert options(found) == {"86Cx_0": 1, "86Cx_1": None}
    first, second = (row.answer for row in found.rows)
    assert (first.text, first.thought) == ("B", "<think>So A. But look again.</think>")
    assert second.status is Status.TRUNCATED_OUTPUT
    # Exported again, the text is what lmms-eval itself keeps: without the thoughts.
    lines = LmmsEvalSamplesForm(metric="lvb_acc").samples(found.rows, ASKED).splitlines()
    assert [json.loads(line)["filtered_resps"] for line in lines] == ["B", ""]
    assert [json.loads(line)["lvb_acc"]["score"] for line in lines] == [1.0, 0.0]


def test_the_lists_and_the_document_of_older_versions_are_read_too(tmp_path: Path) -> None:
    row = {"doc_id": 0, "doc": {"question_id": "001-1"}, "target": "D", "filtered_resps": ["D"], "resps": [["D"]]}
    assert options(read(tmp_path, [row], ASKED)) == {"001-1": 3}


def test_a_row_without_an_id_is_found_by_its_number_where_all_such_rows_fit(tmp_path: Path) -> None:
    rows = [mlvu_sample(number, "A", question, "AB"[question.correct or 0]) for number, question in enumerate(MLVU)]
    assert list(options(read(tmp_path, rows[::-1], MLVU))) == ["Q3", "Q2", "Q1", "Q0"]
    # A run over the first two questions alone: the rest of the file is of none of its questions.
    part = read(tmp_path, rows, MLVU[:2])
    assert (list(options(part)), len(part.unmatched)) == (["Q0", "Q1"], 2)


def test_a_row_is_found_by_its_words_where_its_number_is_another(tmp_path: Path) -> None:
    rows = [mlvu_sample(0, "A", MLVU[3]), mlvu_sample(1, "A", MLVU[1], "B")]
    assert options(read(tmp_path, rows, MLVU)) == {"Q3": 0, "Q1": 0}


def test_a_row_that_may_be_of_two_questions_is_joined_to_neither(tmp_path: Path) -> None:
    found = read(tmp_path, [mlvu_sample(1, "A", MLVU[0]), mlvu_sample(2, "A", MLVU[1], "B")], MLVU)
    assert options(found) == {"Q1": 0}
    assert [where.rsplit(":", 1)[1] for where in found.unclear] == ["1"]
    # Nor where two rows have the words of the one that the run was asked.
    both = read(tmp_path, [mlvu_sample(6, "A", MLVU[0]), mlvu_sample(7, "B", MLVU[2])], MLVU[:2])
    assert (both.rows, len(both.unclear), both.unmatched) == ((), 2, ())


def test_lvbench_is_found_by_its_prompt(tmp_path: Path) -> None:
    row = {**sample(5, "(D)", "D"), "lvbench_score": True}
    row["input"] = "How many cows?\n(A) one\n(B) two\n(C) three\n(D) four\nAnswer the question with the option letter"
    assert options(read(tmp_path, [row], ASKED)) == {"001-1": 3}


def test_a_row_of_no_question_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, [sample(9, "A", "A", lvb_acc={"id": "other_3"})], ASKED)
    assert found.rows == ()
    (where,) = found.unmatched
    assert where.endswith("samples_task.jsonl:1")


def test_other_annotations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"right option is '2', and 'B' in the question '86Cx_0'"):
        read(tmp_path, [sample(0, "B", "2", lvb_acc={"id": "86Cx_0"})], ASKED)


def test_the_same_id_in_another_benchmark_is_refused(tmp_path: Path) -> None:
    row = {**sample(0, "B", "1", lvb_acc={"id": "86Cx_0"}), "input": "What does the man hold?\nA. a cat\nB. a dog"}
    with pytest.raises(InputError, match=r"does not hold the words of the question '86Cx_0': 'What is shown first\?'"):
        read(tmp_path, [row], ASKED)


def test_two_rows_of_one_question_are_refused(tmp_path: Path) -> None:
    row = sample(0, "B", "1", lvb_acc={"id": "86Cx_0"})
    with pytest.raises(InputError, match="1 questions with more than one row, '86Cx_0' for one"):
        read(tmp_path, [row, {**row, "doc_id": 1}], ASKED)


def test_a_file_of_another_kind_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"jsonl:1: filtered_resps: Field required"):
        read(tmp_path, [{"doc_id": 0, "target": "A"}], ASKED)


def test_answers_go_there_and_back(tmp_path: Path) -> None:
    answers = [
        Answer("001-1", "D", 3),
        Answer("86Cx_0", "Answer: A", 0),
        Answer("86Cx_1", "", None, Status.OUT_OF_MEMORY),
    ]
    by_id = {question.id: question for question in ASKED}
    rows = [AnswerRow("key", "gens", "qwen", by_id[answer.question_id], answer) for answer in answers]
    text = LmmsEvalSamplesForm(metric="lvb_acc").samples(rows, ASKED)
    written = [json.loads(line) for line in text.splitlines()]
    assert [row["doc_id"] for row in written] == [0, 1, 2]
    assert [row["target"] for row in written] == ["B", "A", "D"]
    assert [row["filtered_resps"] for row in written] == ["Answer: A", "", "D"]
    assert written[0]["lvb_acc"] == {
        "duration_group": "600",
        "id": "86Cx_0",
        "question_id": "86Cx_0",
        "answer": "B",
        "parsed_pred": "A",
        "pred_answer": "A",
        "score": 0.0,
        "status": "ok",
    }
    assert [row["lvb_acc"]["score"] for row in written] == [0.0, 0.0, 1.0]
    (tmp_path / "samples.jsonl").write_text(text)
    back = read_samples(tmp_path / "samples.jsonl", ASKED, "second")
    assert options(back) == {"86Cx_0": 0, "86Cx_1": None, "001-1": 3}
    assert [row.answer.status for row in back.rows] == [Status.OK, Status.EMPTY_ANSWER, Status.OK]


def test_a_question_without_an_answer_has_no_row_and_keeps_the_numbers_of_the_others() -> None:
    row = AnswerRow("key", "gens", "qwen", ASKED[2], Answer("001-1", "D", 3))
    (line,) = LmmsEvalSamplesForm(metric="gens_acc").samples([row], ASKED).splitlines()
    assert json.loads(line)["doc_id"] == 2


def test_an_option_that_a_failure_carries_is_not_right() -> None:
    row = AnswerRow("key", "gens", "qwen", ASKED[0], Answer("86Cx_0", "B", 1, Status.TRUNCATED_OUTPUT))
    (line,) = LmmsEvalSamplesForm(metric="lvb_acc").samples([row], ASKED).splitlines()
    assert json.loads(line)["lvb_acc"]["score"] == 0.0


@pytest.mark.parametrize("status", [Status.OK, Status.EMPTY_ANSWER])
def test_an_empty_answer_is_an_empty_text_and_right_nowhere(tmp_path: Path, status: Status) -> None:
    free = Question("free", "/v/a.mp4", "What is said?")
    unknown = Question("unknown", "/v/a.mp4", "Which one?", ("a", "b"))
    asked = [free, unknown, ASKED[0]]
    rows = [AnswerRow("key", "gens", "qwen", question, Answer(question.id, "", None, status)) for question in asked]
    text = LmmsEvalSamplesForm(metric="lvb_acc").samples(rows, asked)
    written = [json.loads(line) for line in text.splitlines()]
    assert [(row["target"], row["filtered_resps"]) for row in written] == [("", ""), ("", ""), ("B", "")]
    assert [row["lvb_acc"]["score"] for row in written] == [0.0, 0.0, 0.0]
    (tmp_path / "samples.jsonl").write_text(text)
    back = read_samples(tmp_path / "samples.jsonl", asked, "second")
    assert [row.answer.status for row in back.rows] == [Status.EMPTY_ANSWER] * 3
