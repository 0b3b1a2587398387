from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faulty import fault_of

from pipeline.benchmarks import MeasuredBenchmark
from pipeline.benchmarks.longvideobench import LongVideoBench
from pipeline.domain import Question, Span, Subtitles
from pipeline.errors import InputError, MissingExtraError

REAL = "GENS_LONGVIDEOBENCH"
"""Names the real lvb_val.json, which is not ours to ship."""
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
    "starting_timestamp_for_subtitles": 2530,
    "duration": 10.5,
    "view_count": 3,
}
UNANSWERED = {key: value for key, value in ROW.items() if key not in ("correct_choice", "position")}


def loader(file: Path, rows: tuple[int, ...] | None = None, ids: str | None = None) -> LongVideoBench:
    return LongVideoBench("longvideobench", str(file), None, rows, ids, None)


def write(folder: Path, *rows: dict[str, Any]) -> LongVideoBench:
    (folder / "lvb_val.json").write_text(json.dumps(rows))
    return loader(folder / "lvb_val.json")


def padded(row: dict[str, Any]) -> dict[str, Any]:
    """The row as the hub's parquet has it: these columns and no others, options in five of them."""
    options = [*row["candidates"], *["N/A"] * (5 - len(row["candidates"]))]
    given = ("video_id", "id", "video_path", "subtitle_path", "correct_choice", "question", "duration")
    labels = ("duration_group", "question_category", "topic_category")
    kept = {field: row[field] for field in (*given, *labels) if field in row}
    start = float(row["starting_timestamp_for_subtitles"])
    columns = {f"option{number}": option for number, option in enumerate(options)}
    return kept | columns | {"starting_timestamp_for_subtitles": start}


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
        subtitles=Subtitles(str(tmp_path / "subtitles" / "vid_en.json"), 2530.0),
    )
    assert second.options == ("x", "y", "y")  # as in eight rows of the validation set
    assert second.evidence is None
    assert benchmark.durations() == {first.video: 10.5}


def test_the_hubs_parquet_says_the_same_with_padded_options(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    three = {**ROW, "id": "vid_1", "candidates": ["N/A", "x", "y"], "correct_choice": 2}
    file = tmp_path / "validation-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([padded(ROW), padded(three)]), file)
    first, second = loader(file).questions()
    as_json = write(tmp_path, ROW).questions()[0]
    labels = {label: value for label, value in as_json.groups.items() if label != "level"}
    assert first == replace(as_json, evidence=None, groups=labels)
    assert (second.options, second.correct) == (("N/A", "x", "y"), 2)

    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as parquet"):
        loader(file).questions()


def test_without_pyarrow_the_line_that_installs_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "validation.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError) as error:
        loader(tmp_path / "validation.parquet").questions()
    assert "pip install 'gens-videoqa[parquet]'" in error.value.remedy


def test_the_test_split_has_neither_answers_nor_evidence(tmp_path: Path) -> None:
    (question,) = write(tmp_path, UNANSWERED).questions()
    assert question.correct is None
    assert question.evidence is None


def test_videos_and_subtitles_may_stand_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, ROW)
    file = str(tmp_path / "lvb_val.json")
    (question,) = LongVideoBench("x", file, "/videos", None, None, "/told").questions()
    assert question.video == "/videos/vid.mp4"
    assert question.subtitles == Subtitles("/told/vid_en.json", 2530.0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"correct_choice": 4}, "entry 2: option 4 of 4"),
        ({"correct_choice": "yes"}, "entry 2: correct_choice"),
        ({"correct_choice": True}, "entry 2: correct_choice: a truth value is not a number"),
        ({"video_path": "a\0.mp4"}, "a\\x00.mp4' is not the path of a file"),
        ({"subtitle_path": "a\0.json"}, "a\\x00.json' is not the path of a file"),
        ({"candidates": None}, "entry 2: candidates: 0 options"),
        ({"candidates": ["x", "", "y", "z"]}, "entry 2: candidates: an option has no text"),
        ({"question": None}, "entry 2: question"),
        ({"duration": "long"}, "entry 2: duration"),
        ({"duration": float("nan")}, "entry 2: duration"),
        ({"duration_group": 1.5}, "entry 2: duration_group"),
    ],
)
def test_a_row_that_is_not_as_published_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    benchmark = write(tmp_path, ROW, {**ROW, "id": "vid_1", **change})
    fault = fault_of(benchmark)
    assert str(tmp_path / "lvb_val.json") in fault
    assert problem in fault
    assert [question.id for question in benchmark.questions()] == ["vid_0", "vid_1"]
    with pytest.raises(InputError) as error:
        write(tmp_path, {**ROW, **change}).questions()
    assert problem.replace("entry 2", "entry 1") in error.value.problem


def test_two_rows_of_one_id_are_refused_but_a_damaged_one_is_named_by_its_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'vid_0' stands twice"):
        write(tmp_path, ROW, ROW).questions()
    _, damaged = write(tmp_path, ROW, {**ROW, "question": None}).questions()
    assert damaged.id == "vid_0, entry 2"


def test_a_line_that_cannot_be_parsed_costs_that_row(tmp_path: Path) -> None:
    file = tmp_path / "lvb_val.jsonl"
    file.write_text(f'{json.dumps(ROW)}\n{{"id": "cut", \n[1]\n')
    first, second, third = loader(file, rows=(3,)).questions()
    assert (first.fault, second.id, third.id) == ("", "line 2", "line 3")
    assert "lvb_val.jsonl:2: not JSON" in second.fault
    assert "lvb_val.jsonl:3: the entry" in third.fault


def test_a_field_that_is_missing_is_named_with_row_and_file(tmp_path: Path) -> None:
    without = {key: value for key, value in ROW.items() if key != "video_path"}
    assert "lvb_val.json: entry 2: video_path: Field required" in fault_of(write(tmp_path, ROW, without))


def test_the_real_annotations_are_complete() -> None:
    path = os.environ.get(REAL)
    if path is None:
        pytest.skip(f"needs the annotations of LongVideoBench: set {REAL}=.../lvb_val.json")
    benchmark = loader(Path(path), rows=(1337,))
    questions = benchmark.questions()
    assert len(benchmark.durations()) == 753

    def counted(label: str) -> Counter[str]:
        return Counter(question.groups[label] for question in questions)

    assert counted("duration_group") == {"15": 189, "60": 172, "600": 412, "3600": 564}
    assert counted("level") == {"L1-Perception": 625, "L2-Relation": 712}
    assert (len(counted("question_category")), len(counted("topic_category"))) == (17, 10)
    assert Counter(len(question.options or ()) for question in questions) == {5: 983, 4: 353, 3: 1}
    assert sum(question.subtitles is not None and question.subtitles.start > 0 for question in questions) == 250
    assert all(question.correct is not None for question in questions)


def test_minus_one_is_no_option_but_one_that_is_not_told(tmp_path: Path) -> None:
    (question,) = write(tmp_path, {**ROW, "correct_choice": -1}).questions()
    assert question.correct is None
