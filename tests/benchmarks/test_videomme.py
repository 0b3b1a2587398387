from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from faulty import fault_of

from pipeline.benchmarks.videomme import VideoMME
from pipeline.domain import Question, Subtitles
from pipeline.errors import InputError

ROW: dict[str, Any] = {
    "video_id": "001",
    "duration": "short",
    "domain": "Knowledge",
    "sub_category": "Humanity & History",
    "url": "https://www.youtube.com/watch?v=abc",
    "videoID": "abc",
    "question_id": "001-1",
    "task_type": "Counting Problem",
    "question": "Which is the most frequent?",
    "options": ["A. Apples.", "B. Candles.", "C. Berries.", "D. All alike."],
    "answer": "C",
}


def write(folder: Path, *rows: dict[str, Any], suffix: str = ".parquet") -> VideoMME:
    file = folder / "videomme" / f"test-00000-of-00001{suffix}"
    file.parent.mkdir(exist_ok=True)
    match suffix:
        case ".parquet":
            pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            pq.write_table(pa.Table.from_pylist(list(rows)), file)
        case ".json":
            file.write_text(json.dumps(rows))
        case _:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return VideoMME("videomme", str(file), None, None, None, None)


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl"])
def test_a_row_is_a_question_whatever_the_form_of_the_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "subtitle").mkdir()
    (tmp_path / "subtitle" / "abc.srt").touch()
    other = {**ROW, "question_id": "002-1", "videoID": "xyz", "answer": "A"}
    first, second = write(tmp_path, ROW, other, suffix=suffix).questions()
    assert first == Question(
        id="001-1",
        video=str(tmp_path / "data" / "abc.mp4"),
        text="Which is the most frequent?",
        options=("Apples.", "Candles.", "Berries.", "All alike."),
        correct=2,
        groups={
            "duration": "short",
            "domain": "Knowledge",
            "sub_category": "Humanity & History",
            "task_type": "Counting Problem",
        },
        subtitles=Subtitles(str(tmp_path / "subtitle" / "abc.srt")),
    )
    assert second.subtitles is None  # as 156 of the 900 videos


def test_without_the_subtitle_folder_every_video_is_promised_one(tmp_path: Path) -> None:
    (question,) = write(tmp_path, ROW).questions()
    assert question.subtitles == Subtitles(str(tmp_path / "videomme" / "subtitle" / "abc.srt"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"answer": "E"}, "entry 2: the answer 'E' is none of ABCD"),
        ({"options": "A. x"}, "entry 2: options"),
        ({"domain": None}, "entry 2: domain"),
    ],
)
def test_a_row_that_is_not_as_published_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    assert problem in fault_of(write(tmp_path, ROW, {**ROW, "question_id": "001-2", **change}, suffix=".json"))


def test_two_rows_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'001-1' stands twice"):
        write(tmp_path, ROW, ROW, suffix=".json").questions()
