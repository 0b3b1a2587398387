from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.benchmarks import MeasuredBenchmark
from pipeline.benchmarks.longvideobench import LongVideoBench
from pipeline.domain import Question, Span
from pipeline.errors import InputError

ROW: dict[str, Any] = {
    "video_id": "vid",
    "question": "On a red sofa, who sits down?",
    "question_wo_referring_query": "Who sits down?",
    "candidates": ["a man", "a woman", "a dog", "nobody"],
    "correct_choice": 1,
    "position": [48, 61388250, 60],
    "topic_category": "NP-News-Programs",
    "question_category": "TOS",
    "level": "L2-Relation",
    "id": "vid_0",
    "video_path": "vid.mp4",
    "subtitle_path": "vid_en.json",
    "duration_group": 15,
    "starting_timestamp_for_subtitles": 0,
    "duration": 10.5,
    "view_count": 3,
}
UNANSWERED = {key: value for key, value in ROW.items() if key not in ("correct_choice", "position")}


def write(folder: Path, *rows: dict[str, Any]) -> LongVideoBench:
    (folder / "lvb_val.json").write_text(json.dumps(rows))
    return LongVideoBench("longvideobench", str(folder / "lvb_val.json"), None)


def test_a_row_is_a_question_with_its_evidence_on_a_clock_of_24(tmp_path: Path) -> None:
    benchmark = write(tmp_path, ROW, {**ROW, "id": "vid_1", "candidates": ["x", "y", "y"], "position": [99999999]})
    assert isinstance(benchmark, MeasuredBenchmark)
    first, second = benchmark.questions()
    assert first == Question(
        id="vid_0",
        video=str(tmp_path / "videos" / "vid.mp4"),
        text="On a red sofa, who sits down?",
        options=("a man", "a woman", "a dog", "nobody"),
        correct=1,
        groups={
            "duration_group": "15",
            "question_category": "TOS",
            "topic_category": "NP-News-Programs",
            "level": "L2-Relation",
        },
        evidence=(Span(2.0, 2.0), Span(2.5, 2.5)),
    )
    assert second.options == ("x", "y", "y")  # as in eight rows of the validation set
    assert second.evidence is None
    assert benchmark.durations() == {first.video: 10.5}


def test_the_test_split_has_neither_answers_nor_evidence(tmp_path: Path) -> None:
    (question,) = write(tmp_path, UNANSWERED).questions()
    assert question.correct is None
    assert question.evidence is None


def test_videos_may_stand_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, ROW)
    (question,) = LongVideoBench("x", str(tmp_path / "lvb_val.json"), "/videos").questions()
    assert question.video == "/videos/vid.mp4"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"correct_choice": 4}, "entry 2: option 4 of 4"),
        ({"correct_choice": "yes"}, "entry 2: correct_choice"),
        ({"candidates": None}, "entry 2: candidates"),
        ({"duration": "long"}, "entry 2: duration"),
        ({"id": "vid_0"}, "'vid_0' stands twice"),
    ],
)
def test_a_row_that_is_not_as_published_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as error:
        write(tmp_path, ROW, {**ROW, "id": "vid_1", **change}).questions()
    assert problem in error.value.problem
