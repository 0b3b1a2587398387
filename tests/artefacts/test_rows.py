"""Rows with texts and values that cannot be used, which other programs and models write."""

from __future__ import annotations

import codecs
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefacts.cache import AnswerCache
from pipeline.artefacts.folder import read_questions, write_questions
from pipeline.artefacts.rows import AnswerRow, QuestionRow, SelectionRow, from_line, to_line
from pipeline.artefacts.selections import read_selections
from pipeline.domain import Answer, FrameOrigin, Question, SelectedFrame, Selection, Status, Video
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


def selection_line(**change: Any) -> bytes:
    """A selection row of two frames as JSON, with values at dotted places changed, by whatever program."""
    video = Video("v.mp4", "f00d", 10.0, 25.0, 250, 64, 48)
    frames = tuple(SelectedFrame(time, round(time * 25), 1.0, FrameOrigin.SAMPLER) for time in (2.0, 4.0))
    row = SelectionRow(
        "k", "gens", replace(QUESTION, options=("a", "b"), correct=1), video, Selection("q", frames, "topk", 2)
    )
    content = json.loads(to_line(row))
    for place, value in change.items():
        part = content
        *path, last = place.split("__")
        for step in path:
            part = part[int(step) if isinstance(part, list) else step]
        part[int(last) if isinstance(part, list) else last] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"video__fps": 0}, Status.INVALID_OUTPUT, "has 0.0 frames a second"),
        ({"video__fps": -25}, Status.INVALID_OUTPUT, "has -25.0 frames a second"),
        ({"video__fps": 1e308}, Status.INVALID_OUTPUT, "has 1e+308 frames a second"),
        ({"video__fps": 5e-324}, Status.INVALID_OUTPUT, "has 5e-324 frames a second"),
        ({"video__frame_count": 10**30}, Status.INVALID_OUTPUT, "0 frames of 64 x 48 pixels"),
        ({"video__path": "v\0.mp4"}, Status.INVALID_OUTPUT, "is not the path of a file"),
        ({"selection__frames__1__time": 1e308}, Status.INVALID_OUTPUT, "the time of a frame is above 1000000000 s"),
        ({"selection__frames__1__index": 10**30}, Status.INVALID_OUTPUT, "a native index is not a whole number"),
        (
            {"selection__frames__0__source": "guess"},
            Status.INVALID_OUTPUT,
            "selection.frames.0.source: Input should be",
        ),
        ({"video": 7, "key": None}, Status.INVALID_OUTPUT, "key: Input should be"),
        ({"sampler": "uniform"}, Status.INVALID_OUTPUT, "are of the sampler 'uniform', those of other rows of 'gens'"),
        ({"question__text": None}, Status.INVALID_QUESTION, "question.text: Input should be"),
        ({"question__video": "v\0.mp4"}, Status.INVALID_QUESTION, "is not the path of a file"),
        ({"question__subtitles": {"path": "\0"}}, Status.INVALID_QUESTION, "is not the path of a file"),
        ({"question__span": {"start": 0, "end": math.nan}}, Status.INVALID_QUESTION, "nan is not a second of a video"),
        ({"question__evidence": [{"start": 1e308, "end": 1e308}]}, Status.INVALID_QUESTION, "1e+308 is not a second"),
        ({"video__duration": math.inf}, Status.INVALID_OUTPUT, "ends at inf s"),
        ({"video__frame_count": 0}, Status.INVALID_OUTPUT, "0 frames of 64 x 48 pixels"),
        ({"video__width": 0}, Status.INVALID_OUTPUT, "250 frames of 0 x 48 pixels"),
        ({"selection__frames__0__time": math.nan}, Status.INVALID_OUTPUT, "the time of a frame is not a finite number"),
        ({"selection__frames__0__time": 5}, Status.INVALID_OUTPUT, "its frames are not in order of time"),
        ({"selection__frames__0__score": math.nan}, Status.INVALID_OUTPUT, "the score of a frame is not a finite"),
        ({"selection__frames__0__index": -1}, Status.INVALID_OUTPUT, "a native index is not a whole number"),
        ({"selection__frames__0__scale": 0}, Status.INVALID_OUTPUT, "the scale of a frame is not a number above 0"),
        ({"selection__budget": 1}, Status.INVALID_OUTPUT, "2 frames, more than the budget of 1"),
        ({"selection__question_id": "p"}, Status.INVALID_OUTPUT, "a selection of 'p' for 'q'"),
        ({"question__correct": 7}, Status.INVALID_QUESTION, "option 7 of 2 is said to be right"),
        ({"question__options": None}, Status.INVALID_QUESTION, "option 1 of 0 is said to be right"),
        ({"question__option_images": ["a.png"]}, Status.INVALID_QUESTION, "1 pictures for 2 options"),
    ],
)
def test_a_selection_that_contradicts_itself_costs_that_row(
    tmp_path: Path, change: dict[str, Any], status: Status, told: str
) -> None:
    file = tmp_path / "selections.jsonl"
    good = b"".join(selection_line().replace(b'"q"', name) + b"\n" for name in (b'"other"', b'"another"'))
    file.write_bytes(good + selection_line(**change) + b"\n")
    other, another, row = read_selections(file)
    assert len(other.selection.frames) == len(another.selection.frames) == 2
    assert (row.selection.status, row.selection.frames) == (status, ())
    assert row.selection.detail.startswith(f"{file}: " if "sampler" in change else f"{file}:3: ")
    assert told in row.selection.detail
    # What is refused can be written and read again.
    back = from_line(SelectionRow, to_line(row), "here", {})
    assert back is not None
    assert back.selection == row.selection


@pytest.mark.parametrize("line", [b"{", b"[1]", b'{"question": {"id": 7}}', b"[" * 5000, b'{"key": "\xff"}'])
def test_a_line_of_which_nothing_can_be_read_is_a_failure_with_its_place(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "selections.jsonl"
    file.write_bytes(line + b"\n" + selection_line() + b"\n")
    bad, good = read_selections(file)
    assert (bad.question.id, bad.selection.status) == ("selections.jsonl:1", Status.INVALID_QUESTION)
    assert bad.question.fault.startswith(f"{file}:1: ")
    assert bad.sampler == good.sampler
    assert len(good.selection.frames) == 2
    file.write_bytes(line + b"\n")
    with pytest.raises(InputError, match=r"selections\.jsonl:1"):
        read_selections(file)


def test_a_right_option_that_was_corrected_beside_the_selections_counts(tmp_path: Path) -> None:
    file = tmp_path / "selections.jsonl"
    file.write_bytes(selection_line(question__correct=7) + b"\n")
    write_questions([replace(QUESTION, options=("a", "b"), correct=0)], tmp_path)
    [row] = read_selections(file)
    assert (row.question.correct, row.question.fault, len(row.selection.frames)) == (0, "", 2)


def test_files_of_other_programs_may_begin_with_a_mark_and_end_without_a_newline(tmp_path: Path) -> None:
    file = tmp_path / "selections.jsonl"
    two = selection_line().replace(b'"q"', b'"two"')
    file.write_bytes(codecs.BOM_UTF8 + selection_line() + b"\r\n" + two)
    assert [row.question.id for row in read_selections(file)] == ["q", "two"]
    file.write_bytes(selection_line() + b"\n" + two[:-1])
    assert [row.question.id for row in read_selections(file)] == ["q"]


def test_what_is_kept_by_content_may_name_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    refused = Answer("q", "", status=Status.UNPARSED, detail="caf\udce9.mp4")
    AnswerCache(tmp_path).keep("k", refused)
    assert AnswerCache(tmp_path).find("k", "q") == replace(refused, detail="caf\ufffd.mp4")
