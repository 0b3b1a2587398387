"""Rows with text that is not well formed, which other programs and models write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.artefacts.folder import read_questions, write_questions
from pipeline.artefacts.rows import AnswerRow, QuestionRow, from_line, to_line
from pipeline.domain import Answer, Question
from pipeline.errors import InputError

QUESTION = Question("q", "v.mp4", "What?")


def test_half_a_character_in_a_models_text_is_replaced_as_it_is_written() -> None:
    row = AnswerRow("k", "gens", "qwen", QUESTION, Answer("q", "red \ud83d", detail="no file caf\udce9.mp4"))
    back = from_line(AnswerRow, to_line(row), "here", {"q": QUESTION})
    assert back is not None
    assert (back.answer.text, back.answer.detail) == ("red \ufffd", "no file caf\ufffd.mp4")


def test_half_a_character_in_somebody_elses_row_is_replaced_as_it_is_read() -> None:
    line = to_line(QuestionRow(Question("q", "v.mp4", "half")))
    cut = from_line(QuestionRow, line.replace(b"half", b"\\ud83d and \\ud83d\\ude00"), "here", {})
    assert cut is not None
    assert cut.question.text == "\ufffd and \U0001f600"
    with pytest.raises(InputError, match="here: the row"):
        from_line(QuestionRow, b'{"question": "\\ud83d"', "here", {})


def test_a_question_that_could_not_be_asked_is_forgotten_when_its_row_is_mended(tmp_path: Path) -> None:
    broken = Question("3", "", "", fault="q.jsonl:3: no question")
    write_questions([QUESTION, broken], tmp_path)
    assert read_questions(tmp_path) == (QUESTION, broken)
    write_questions([QUESTION, Question("3", "v.mp4", "Who?")], tmp_path)
    assert [question.text for question in read_questions(tmp_path)] == ["What?", "Who?"]
    (tmp_path / "other").mkdir()
    write_questions([QUESTION, broken], tmp_path / "other")
    write_questions([QUESTION, Question("three", "v.mp4", "Who?")], tmp_path / "other")
    assert [question.id for question in read_questions(tmp_path / "other")] == ["q", "three"]
    assert json.loads((tmp_path / "questions.jsonl").read_text().splitlines()[1])["question"]["fault"] == ""
