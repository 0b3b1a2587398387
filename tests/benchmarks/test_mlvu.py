from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from faulty import fault_of
from hydra import compose, initialize_config_dir

from pipeline.answerers.options import read_option
from pipeline.answerers.prompts import question_fault
from pipeline.benchmarks.mlvu import FOLDERS, MLVU
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.errors import ConfigError, InputError

REAL = "GENS_MLVU"
"""Names the folder of the nine real task files, which are not ours to ship."""
PLOT: dict[str, Any] = {
    "video": "film_1.mp4",
    "duration": 246,
    "question": "What colour is his coat?",
    "candidates": ["Yellow", "Red", "Green", "Blue"],
    "answer": "Red",
    "question_type": "plotQA",
}
NEEDLE = {**PLOT, "video": "needle_1.mp4", "question_type": "findNeedle"}
SCENE: dict[str, Any] = {
    "video": "subPlot_1.mp4",
    "duration": 5632.8,
    "question": "Describe the scene of the picnic.",
    "answer": "They eat.",
    "question_type": "subPlot",
    "scoring_points": ["They eat"],
}
REPACKED: dict[str, Any] = {
    "video_name": "needle_1.mp4",
    "duration": 467.98,
    "question": "What does the hand do?\n(A) Waves\n(B) \n(C) Points\n(D) \n",
    "candidates": ["Waves", "", "Points", ""],
    "answer": "C",
    "task_type": "needle",
    "question_id": "Q0",
}


def write(folder: Path, **tasks: list[dict[str, Any]]) -> Path:
    place = folder / "json"
    place.mkdir(exist_ok=True)
    for task, rows in tasks.items():
        (place / f"{FOLDERS[task]}.json").write_text(json.dumps(rows))
    return folder


def loader(path: Path, leave_out: tuple[str, ...] = (), rows: tuple[int, ...] | None = None) -> MLVU:
    return MLVU("mlvu", str(path), None, rows, None, leave_out)


def test_the_task_files_of_a_folder_are_one_benchmark(tmp_path: Path) -> None:
    write(tmp_path, plotQA=[PLOT, {**PLOT, "answer": "Blue"}], needle=[NEEDLE], sub_scene=[SCENE])
    first, second, needle, scene = loader(tmp_path).questions()
    assert [question.id for question in (first, second, needle, scene)] == [
        "plotQA_0",
        "plotQA_1",
        "needle_0",
        "sub_scene_0",
    ]
    assert first.video == str(tmp_path / "video" / "1_plotQA" / "film_1.mp4")
    assert first.options == ("Yellow", "Red", "Green", "Blue")
    assert (first.correct, second.correct) == (1, 3)
    assert first.groups == {"task": "plotQA", "detail": "single detail", "duration_group": "0-30 min"}
    assert needle.groups["task"] == "needle"
    assert (scene.options, scene.correct, scene.groups["task"]) == (None, None, "sub_scene")
    assert (scene.reference, scene.scoring_points) == ("They eat.", ("They eat",))
    assert (first.reference, first.scoring_points) == ("", ())  # with options the answer is one of them
    assert loader(tmp_path).durations()[scene.video] == 5632.8
    assert loader(tmp_path / "json").questions() == loader(tmp_path).questions()  # the folder of the files itself


def test_generation_tasks_are_left_out_by_name_and_counted_before(tmp_path: Path) -> None:
    write(tmp_path, plotQA=[PLOT], sub_scene=[SCENE])
    asked = loader(tmp_path, leave_out=("sub_scene", "summary"), rows=(2,)).questions()
    assert [question.id for question in asked] == ["plotQA_0"]
    with pytest.raises(InputError, match="holds 2 questions, and the complete benchmark 2592 or 2174"):
        loader(tmp_path, rows=(2592, 2174)).questions()


def test_a_task_that_there_is_not_cannot_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        loader(tmp_path, leave_out=("sumary",))
    assert "no task 'sumary'. Did you mean 'summary'" in error.value.problem
    assert "sub_scene" in error.value.remedy


def test_the_two_needle_rows_without_a_right_option_are_asked_and_not_counted(tmp_path: Path) -> None:
    stray = {**NEEDLE, "video": "needle_4.mp4", "answer": "Catching a flying drone"}
    write(tmp_path, needle=[NEEDLE, stray])
    first, second = loader(tmp_path).questions()
    assert (first.correct, second.correct) == (1, None)


def test_an_answer_that_is_no_option_is_an_error_anywhere_else(tmp_path: Path) -> None:
    write(tmp_path, needle=[NEEDLE, {**NEEDLE, "answer": "Purple"}])
    fault = fault_of(loader(tmp_path))
    assert "2_needle.json: entry 2: answer: 'Purple' is none of the options (A. Yellow, B. Red" in fault
    assert loader(tmp_path).questions()[1].id == "2_needle, entry 2"


def test_of_equal_options_the_last_is_right_and_a_row_of_empty_ones_is_left_out(tmp_path: Path) -> None:
    twice = {**PLOT, "candidates": ["Six", "Three", "Three", "Eight"], "answer": "Three"}
    half = {**PLOT, "candidates": ["", "An archer", "None", ""], "answer": "An archer"}
    empty = {**PLOT, "candidates": ["", "", "", ""], "answer": ""}
    write(tmp_path, plotQA=[twice, empty, half])
    first, second = loader(tmp_path).questions()
    assert (first.id, first.correct) == ("plotQA_0", 2)
    assert (second.id, second.options, second.correct) == ("plotQA_2", ("", "An archer", "None", ""), 1)


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_the_repack_of_the_hub_has_options_in_the_text_and_letters(tmp_path: Path, suffix: str) -> None:
    other = {**REPACKED, "question_id": "Q1", "candidates": None, "question": "What?\n(A) x\n(B) y\n", "answer": "B"}
    file = tmp_path / "mlvu" / f"test-00000-of-00001{suffix}"
    file.parent.mkdir()
    if suffix == ".json":
        file.write_text(json.dumps([REPACKED, other]))
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.Table.from_pylist([REPACKED, other]), file)
    there = tmp_path / "video" / "needle_1.mp4"  # flat, where the authors have folders by task
    there.parent.mkdir()
    there.touch()
    first, second = loader(file).questions()
    assert (first.id, first.text, first.correct) == ("Q0", "What does the hand do?", 2)
    assert first.options == ("Waves", "", "Points", "")
    assert first.groups["task"] == "needle"
    assert first.video == str(there)
    assert (second.text, second.options, second.correct) == ("What?", ("x", "y"), 1)
    (tmp_path / "bad.json").write_text(json.dumps([{**REPACKED, "answer": "E"}]))
    with pytest.raises(InputError, match="'E' is none of ABCD"):
        loader(tmp_path / "bad.json").questions()


TEST: dict[str, Any] = {
    "video": "test_1.mp4",
    "duration": 100.0,
    "question": "Who scores?",
    "candidates": ["a", "b", "c", "d", "e", "f"],
    "question_type": "needleQA",
    "question_id": "NQA_0",
}
TUTORIAL = {**TEST, "question_type": "tutorialQA", "question_id": "TQA_1"}


def test_the_test_set_has_six_options_and_its_own_ids(tmp_path: Path) -> None:
    file = tmp_path / "test_multi_choice_tasks.json"
    file.write_text(json.dumps([TEST, TUTORIAL]))
    there = tmp_path / "MLVU_Test" / "video" / "part" / "test_1.mp4"
    there.parent.mkdir(parents=True)
    there.touch()
    first, second = loader(file).questions()
    assert (first.id, first.correct, len(first.options or ())) == ("NQA_0", None, 6)
    assert first.video == str(there)
    assert (first.groups["task"], second.groups["detail"]) == ("needle", "multi detail")


def test_the_test_set_is_graded_by_its_published_answers(tmp_path: Path) -> None:
    truth = tmp_path / "MLVU_Test" / "test-ground-truth" / "test_mcq_gt.json"
    truth.parent.mkdir(parents=True)
    truth.write_text(json.dumps([{**TEST, "answer": "f"}, {**TUTORIAL, "answer": "b"}]))
    video = tmp_path / "MLVU_Test" / "MLVU_Test" / "video" / "test_1.mp4"
    video.parent.mkdir(parents=True)
    video.touch()
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", ["benchmark=mlvu_test", f"paths.data={tmp_path}"])
    benchmark = build(config.benchmark, "benchmark")
    first, second = benchmark.questions()
    assert (first.correct, second.correct) == (5, 1)
    assert first.video == str(video)
    # The file that was published before them takes the answers by id, whatever their order.
    truth.write_text(json.dumps([{**TUTORIAL, "answer": "b"}, {**TEST, "answer": "f"}]))
    questions = tmp_path / "MLVU_Test" / "test_multi_choice_tasks.json"
    questions.write_text(json.dumps([TEST, TUTORIAL]))
    assert [question.correct for question in loader(questions).questions()] == [5, 1]


def test_the_repack_of_the_test_set_has_six_options(tmp_path: Path) -> None:
    text = "Who scores?\n" + "".join(f"({letter}) {letter.lower()}\n" for letter in "ABCDEF")
    row = {**REPACKED, "question": text, "candidates": list("abcdef"), "answer": "F", "task_type": "sportsQA"}
    (tmp_path / "test.json").write_text(json.dumps([row]))
    [question] = loader(tmp_path / "test.json").questions()
    assert (question.text, question.options, question.correct) == ("Who scores?", tuple("abcdef"), 5)
    assert question.groups["task"] == "sportsQA"


@pytest.mark.parametrize("field", ["video", "question_type", "question", "duration"])
def test_a_field_that_is_missing_is_named_with_row_and_file(tmp_path: Path, field: str) -> None:
    write(tmp_path, plotQA=[PLOT, {key: value for key, value in PLOT.items() if key != field}])
    assert f"1_plotQA.json: entry 2: {field}" in fault_of(loader(tmp_path))


def test_a_folder_without_task_files_says_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        loader(tmp_path).questions()
    assert "holds none of the task files" in error.value.problem
    assert "gens download benchmark=mlvu" in error.value.remedy


def test_the_real_files_are_complete() -> None:
    path = os.environ.get(REAL)
    if path is None:
        pytest.skip(f"needs the nine task files of MLVU: set {REAL}=FOLDER")
    everything = loader(Path(path), rows=(2592,)).questions()
    assert Counter(question.groups["task"] for question in everything) == {
        "plotQA": 539,
        "needle": 355,
        "ego": 352,
        "count": 206,
        "order": 259,
        "anomaly_reco": 200,
        "topic_reasoning": 263,
        "sub_scene": 201,
        "summary": 217,
    }
    choices = loader(Path(path), leave_out=("sub_scene", "summary")).questions()
    assert len(choices) == 2174
    assert [question.id for question in choices if question.correct is None] == ["needle_34", "needle_338"]
    assert all(len(question.options or ()) == 4 for question in choices)
    assert max(loader(Path(path)).durations().values()) == pytest.approx(32550, abs=1)


def test_an_option_without_text_is_asked_as_it_stands(tmp_path: Path) -> None:
    """Three rows of the real files have some; refused, they would be wrong answers that nobody gave."""
    write(tmp_path, plotQA=[{**PLOT, "candidates": ["Yellow", "Red", "", "Blue"], "answer": ""}])
    (question,) = loader(tmp_path).questions()
    assert (question.options, question.correct) == (("Yellow", "Red", "", "Blue"), 2)
    assert question_fault(question, ()) is None
    assert read_option("(C)", question.options or ()) == 2
    assert read_option("...", question.options or ()) is None
