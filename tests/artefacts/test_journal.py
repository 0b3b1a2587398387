from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.artefacts.journal import Journal, read_rows, sole_writer
from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.domain import Answer, FrameOrigin, Question, SelectedFrame, Selection, Span, Status, Video
from pipeline.errors import InputError, StorageError

VIDEO = Video("clip.mp4", "f00d", 12.5, 29.97002997, 375, 640, 360)


def selection_row(question_id: str, key: str = "k") -> SelectionRow:
    question = Question(
        question_id, "clip.mp4", 'what is "it"?\n</script>', ("a", "ü"), 1, {"kind": "count"}, (Span(1, 2.5),)
    )
    frames = (SelectedFrame(1.0343, 31, 5.0, FrameOrigin.SAMPLER), SelectedFrame(8.1, 243, None, FrameOrigin.FILL))
    return SelectionRow(key, "gens", question, VIDEO, Selection(question_id, frames, "topk", 8))


def answer_row(question_id: str, text: str) -> AnswerRow:
    question = Question(question_id, "clip.mp4", "what?")
    return AnswerRow("k", "gens", "qwen", question, Answer(question_id, text))


ASKED = {id: selection_row(id).question for id in "12"}
TOLD = {id: answer_row(id, "").question for id in "12"}


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "selections.jsonl"
    rows = [selection_row("1"), selection_row("2")]
    with Journal(SelectionRow, path) as journal:
        for row in rows:
            journal.append(row)
    assert read_rows(SelectionRow, path, {}) == rows


def test_last_row_of_a_question_counts(tmp_path: Path) -> None:
    with Journal(AnswerRow, tmp_path / "answers.jsonl") as journal:
        journal.append(answer_row("1", "old"))
        journal.append(answer_row("2", "other"))
        journal.append(answer_row("1", "new"))
    assert [row.answer.text for row in read_rows(AnswerRow, tmp_path / "answers.jsonl", TOLD)] == ["new", "other"]


def test_the_disk_has_a_row_before_the_next_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, on_disk = tmp_path / "answers.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda _: on_disk.append(path.read_bytes().count(b"\n")))
    with Journal(AnswerRow, path) as journal:
        for number in (1, 2):
            journal.append(answer_row(str(number), "x"))
            assert on_disk[-1] == number


def test_every_cut_of_the_last_line_loses_only_that_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    with Journal(SelectionRow, whole) as journal:
        journal.append(selection_row("1"))
        first = whole.stat().st_size
        journal.append(selection_row("2"))
    text = whole.read_bytes()
    for cut in range(first, len(text)):
        path = tmp_path / f"{cut}.jsonl"
        path.write_bytes(text[:cut])
        with Journal(SelectionRow, path) as journal:
            assert journal.find(ASKED["1"], "k") == selection_row("1")
            assert journal.find(ASKED["2"], "k") is None
            journal.append(selection_row("2"))
        assert path.read_bytes() == text


def test_find_passes_over_rows_made_under_another_key(tmp_path: Path) -> None:
    with Journal(SelectionRow, tmp_path / "s.jsonl") as journal:
        journal.append(selection_row("1", key="before"))
        assert journal.find(ASKED["1"], "after") is None
        assert journal.find(ASKED["1"], "before") is not None


@pytest.mark.parametrize(
    "line", ["not json", '{"schema": "gens/selection/99"}', '{"schema": "gens/answer/1"}', "[1, 2]"]
)
def test_a_line_of_another_kind_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=r"s\.jsonl:1"):
        read_rows(SelectionRow, path, {})


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_rows(SelectionRow, tmp_path / "nowhere.jsonl", {})


def _write_until_killed(path: Path) -> None:
    with Journal(AnswerRow, path) as journal:
        for number in range(100_000):
            journal.append(answer_row(str(number), "x" * 2000))


def test_kill_loses_no_finished_row(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    process = multiprocessing.get_context("spawn").Process(target=_write_until_killed, args=(path,))
    process.start()
    deadline = time.monotonic() + 60
    while (not path.exists() or path.stat().st_size < 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    finished = path.read_bytes().count(b"\n")
    assert finished >= 40
    with Journal(AnswerRow, path):
        pass
    asked = {str(number): answer_row(str(number), "").question for number in range(finished)}
    rows = read_rows(AnswerRow, path, asked)
    assert [row.question.id for row in rows] == [str(number) for number in range(finished)]


def test_a_run_folder_has_one_writer(tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path / "run"),
        pytest.raises(StorageError, match="another process"),
        sole_writer(tmp_path / "run"),
    ):
        pass
    with sole_writer(tmp_path / "run"):
        pass


def test_a_folder_that_cannot_be_made_names_the_override(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"paths\.runs"), sole_writer(tmp_path / "file" / "run"):
        pass


def test_correct_is_unknown_without_a_known_answer() -> None:
    assert answer_row("1", "x").correct is None
    asked = Question("1", "v", "q", ("a", "b"), 0)
    unparsed = AnswerRow("k", "s", "a", asked, Answer("1", "hm", None, Status.UNPARSED))
    assert unparsed.correct is False
