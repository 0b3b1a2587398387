"""What holds for every published benchmark: rows are counted, a part is run on purpose, videos are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_longvideobench import ROW, loader

from pipeline.benchmarks.longvideobench import LongVideoBench
from pipeline.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [{**ROW, "id": f"vid_{number}"} for number in range(4)]
    (tmp_path / "lvb_val.json").write_text(json.dumps(rows))
    return tmp_path / "lvb_val.json"


def test_a_file_of_another_number_of_rows_is_refused_before_anything_is_asked(file: Path) -> None:
    with pytest.raises(InputError) as error:
        loader(file, rows=(1337, 5341)).questions()
    assert "holds 4 questions, and the complete benchmark 1337 or 5341" in error.value.problem
    assert "benchmark.rows=null" in error.value.remedy
    assert "gens download benchmark=longvideobench" in error.value.remedy
    assert len(loader(file, rows=(4,)).questions()) == len(loader(file).questions()) == 4


def test_a_missing_file_says_which_command_gets_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        loader(tmp_path / "none.json").questions()
    assert "there is no file" in error.value.problem
    assert "gens download benchmark=longvideobench" in error.value.remedy
    assert "benchmark.path=" in error.value.remedy


@pytest.mark.parametrize("text", ["vid_3\n\n vid_1 \n", '["vid_3", "vid_1"]'])
def test_a_list_of_ids_is_asked_in_the_order_of_the_benchmark(file: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "ids.txt").write_text(text)
    part = loader(file, rows=(4,), ids=str(tmp_path / "ids.txt"))
    assert [question.id for question in part.questions()] == ["vid_1", "vid_3"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("vid_1\nvid_9\nvid_8\n", "2 of 3 ids are of no question here: 'vid_8', 'vid_9'. Did you mean"),
        ("\n", "is not a list of ids"),
        ("[[1]]", "is not a list of ids"),
        ('["a"', "not JSON"),
    ],
)
def test_a_list_of_other_ids_is_refused(file: Path, tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "ids.txt").write_text(text)
    with pytest.raises(InputError) as error:
        loader(file, ids=str(tmp_path / "ids.txt")).questions()
    assert problem in error.value.problem
    assert "benchmark.ids=" in error.value.remedy


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mov"])
def test_a_video_in_another_container_is_found(file: Path, suffix: str) -> None:
    there = file.parent / "videos" / f"vid{suffix}"
    there.parent.mkdir()
    there.touch()
    assert {question.video for question in loader(file).questions()} == {str(there)}
    there.with_suffix(".mp4").touch()
    assert {question.video for question in loader(file).questions()} == {str(there.with_suffix(".mp4"))}


def test_a_video_that_is_nowhere_keeps_its_published_name_and_is_no_error_yet(file: Path) -> None:
    assert loader(file).questions()[0].video == str(file.parent / "videos" / "vid.mp4")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("[]", "is empty"),
        ('[\n  {"id": "vid_0"},\n]', "line 3, column 1"),
        ('{"id": "vid_0"', "not JSON"),
        ("[1]", "entry 1: the entry"),
        ("[" * 100_000, "not JSON that can be read"),
        ('{"id": ' + "9" * 5000 + "}", "not JSON that can be read"),
    ],
)
def test_a_file_that_is_broken_says_where(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "lvb_val.json").write_text(text)
    with pytest.raises(InputError) as error:
        LongVideoBench("longvideobench", str(tmp_path / "lvb_val.json"), None, None, None, None).questions()
    assert problem in error.value.problem
    assert "lvb_val.json" in error.value.problem
