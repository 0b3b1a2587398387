from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from faulty import fault_of

from pipeline.benchmarks.lvhaystack import LVHaystack
from pipeline.domain import Question, Span

ROW: dict[str, Any] = {
    "video_id": "u-1",
    "vclip_id": "c-1",
    "question": "Where was the bin before I moved it?",
    "options": {"A": "by the door", "B": "in the yard", "C": "upstairs", "D": None, "E": None},
    "answer": "B",
    "frame_indexes_video": [12000, 3000],
    "frame_indexes_vclip": [9000, 0],
    "video_metadata": {
        "frame_rate": 30.0,
        "video_duration": 3661.0,
        "vclip_interval_in_video": [3000, 15000],
        "vclip_duration": 400.0,
    },
}


def loader(folder: Path, *rows: Any, suffix: str = ".json") -> LVHaystack:
    file = folder / f"test{suffix}"
    if suffix == ".parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.Table.from_pylist(list(rows)), file)
    else:
        file.write_text(json.dumps(rows))
    return LVHaystack("lvhaystack", str(file), None, None, None)


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_gold_frames_are_evidence_at_the_rows_own_rate(tmp_path: Path, suffix: str) -> None:
    first, second, other = loader(
        tmp_path, ROW, {**ROW, "question": "Who came in?"}, {**ROW, "vclip_id": "c-2"}, suffix=suffix
    ).questions()
    assert first == Question(
        id="c-1_0",
        video=str(tmp_path / "videos" / "u-1.mp4"),
        text="Where was the bin before I moved it?",
        options=("by the door", "in the yard", "upstairs"),
        correct=1,
        groups={"duration_group": "60-90 min"},
        evidence=(Span(100, 100), Span(400, 400)),
    )
    assert (second.id, other.id) == ("c-1_1", "c-2_0")


def test_a_row_without_frames_or_options_is_asked_without(tmp_path: Path) -> None:
    (question,) = loader(tmp_path, {**ROW, "frame_indexes_video": [], "options": None, "answer": None}).questions()
    assert (question.evidence, question.options, question.correct) == (None, None, None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"video_metadata": {"frame_rate": 0}}, "video_metadata.frame_rate"),
        ({"video_metadata": {"fps": 30}}, "video_metadata.frame_rate: Field required"),
        ({"frame_indexes_video": [-1]}, "frame_indexes_video.0"),
        ({"options": {"A": "x", "C": "y"}}, "options: A, C are not the letters A, B"),
        ({"answer": "E"}, "the answer 'E' is none of ABC"),
    ],
)
def test_a_row_that_is_not_as_published_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    assert problem in fault_of(loader(tmp_path, ROW, {**ROW, **change}))
