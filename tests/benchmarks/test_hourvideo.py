from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from faulty import fault_of

from pipeline.benchmarks import MeasuredBenchmark
from pipeline.benchmarks.hourvideo import HourVideo, evidence_of
from pipeline.domain import Span
from pipeline.errors import InputError

ROW: dict[str, Any] = {
    "qid": "q1",
    "task": "perception/tracking",
    "question": "Whom does the wearer meet?",
    "mcq_test": "...",
    **{f"answer_{number}": f"person {number}" for number in range(1, 6)},
    "correct_answer_label": "E",
    "relevant_timestamps": ["0:10:00-0:12:30"],
}


def write(folder: Path, *rows: dict[str, Any] | str, leave_out: tuple[str, ...] = ()) -> HourVideo:
    videos = {"uid": {"video_metadata": {"duration_in_seconds": 2000.5}, "benchmark_dataset": rows}}
    (folder / "dev.json").write_text(json.dumps(videos))
    return HourVideo("hourvideo", str(folder / "dev.json"), "/ego4d", None, None, None, leave_out)


def test_rows_become_questions(tmp_path: Path) -> None:
    unanswered = {**ROW, "qid": "q2", "correct_answer_label": None, "relevant_timestamps": None}
    benchmark = write(tmp_path, ROW, unanswered)
    assert isinstance(benchmark, MeasuredBenchmark)
    first, second = benchmark.questions()
    assert first.options == ("person 1", "person 2", "person 3", "person 4", "person 5")
    assert (first.correct, second.correct) == (4, None)
    assert (first.evidence, second.evidence) == ((Span(600, 750),), None)
    assert first.groups == {"duration_group": "30-60 min", "family": "perception", "task": "perception/tracking"}
    assert (first.span, first.option_images) == (None, None)
    assert benchmark.durations() == {"/ego4d/uid.mp4": 2000.5}


def test_pictures_are_options_that_are_only_named(tmp_path: Path) -> None:
    paths = {f"answer_{number}": f"navigation_images/uid/0/{number}.png" for number in range(1, 6)}
    row = {**ROW, **paths, "task": "navigation/room_to_room_image"}
    place = tmp_path / "v1.0_release" / "json"
    place.mkdir(parents=True)
    (question,) = write(place, row).questions()
    assert question.options == ("image A", "image B", "image C", "image D", "image E")
    release = tmp_path / "v1.0_release"
    assert question.option_images == tuple(str(release / path) for path in paths.values())
    assert question.correct == 4
    elsewhere = HourVideo("hourvideo", str(place / "dev.json"), None, None, None, "/pictures", ())
    assert (elsewhere.questions()[0].option_images or ())[0] == "/pictures/navigation_images/uid/0/1.png"


def test_prediction_sees_the_video_up_to_the_event_which_is_no_evidence(tmp_path: Path) -> None:
    row = {**ROW, "task": "reasoning/predictive", "relevant_timestamps": "0:10:00-0:12:30"}
    (question,) = write(tmp_path, row).questions()
    assert question.span is not None
    assert question.span.start == 0
    assert 599.99 < question.span.end < 600  # a frame at 600 s shows the event
    assert question.evidence is None
    with pytest.raises(InputError) as error:
        write(tmp_path, {**row, "relevant_timestamps": None}).questions()
    assert "'q1': relevant_timestamps" in error.value.problem
    assert "benchmark.leave_out=[reasoning/predictive]" in error.value.remedy


def test_the_canary_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, ROW)
    videos = json.loads((tmp_path / "dev.json").read_text())
    (tmp_path / "dev.json").write_text(json.dumps({"canary": "not for training: 0000-1111", **videos}))
    benchmark = HourVideo("hourvideo", str(tmp_path / "dev.json"), None, (1,), None, None, ())
    assert [question.id for question in benchmark.questions()] == ["q1"]


def test_tasks_are_left_out_by_the_start_of_their_name(tmp_path: Path) -> None:
    images = {**ROW, "qid": "q2", "task": "navigation/room_to_room_image"}
    left = write(tmp_path, ROW, images, leave_out=("navigation/",))
    assert [question.id for question in left.questions()] == ["q1"]
    with pytest.raises(InputError, match="holds no question"):
        write(tmp_path, images, leave_out=("navigation/",)).questions()


@pytest.mark.parametrize(
    ("timestamps", "evidence"),
    [
        ("1:02:03", (Span(3723, 3723),)),
        (["00:10", "00:20"], (Span(10, 10), Span(20, 20))),
        ("00:00:10 - 00:00:12.5", (Span(10, 12.5),)),
        ([[10, 12], ["0:01:00", "0:02:00"]], (Span(10, 12), Span(60, 120))),
        ([{"start": 1, "end": 2}], (Span(1, 2),)),
        (7, (Span(7, 7),)),
        ([], None),
    ],
)
def test_forms_of_relevant_timestamps(timestamps: Any, evidence: tuple[Span, ...] | None) -> None:
    assert evidence_of(timestamps, "here") == evidence


@pytest.mark.parametrize("timestamps", ["soon", [[5, 3]], [[1, 2, 3]], {"from": 1}, [None], [True], [[]]])
def test_timestamps_in_another_form_are_refused(tmp_path: Path, timestamps: Any) -> None:
    with pytest.raises(InputError) as error:
        write(tmp_path, {**ROW, "relevant_timestamps": timestamps}).questions()
    assert "dev.json: 'q1': relevant_timestamps=" in error.value.problem


def test_a_row_that_is_not_as_published_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'F' is none of ABCDE"):
        write(tmp_path, {**ROW, "correct_answer_label": "F"}).questions()
    assert "'q2': answer_3: " in fault_of(write(tmp_path, ROW, {**ROW, "qid": "q2", "answer_3": None}))
    assert "question 2: the entry: " in fault_of(write(tmp_path, ROW, "row"))
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="not an object of videos"):
        HourVideo("hourvideo", str(tmp_path / "list.json"), None, None, None, None, ()).questions()
