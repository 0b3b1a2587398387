"""Evidence recall, foreign selections and exports as whole commands over real files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from command_line import gens
from made import write_video
from PIL import Image
from rows_on_disk import rows_of

from pipeline.artefacts.rows import RelevanceRow, SelectionRow

ANNOTATIONS = "GENS_LONGVIDEOBENCH"
"""Names the real lvb_val.json, which is not ours to ship."""


def lvb_row(id: str, duration: float, position: list[int], group: int) -> dict[str, Any]:
    return {
        "id": id,
        "video_path": f"{id}.mp4",
        "question": f"What of {id}?",
        "candidates": ["x", "y"],
        "correct_choice": 0,
        "position": position,
        "topic_category": "t",
        "question_category": "S2E",
        "level": "L1-Perception",
        "duration_group": group,
        "duration": duration,
    }


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    rows = [
        lvb_row("short", 10.0, [0, 240], 15),  # at 0 and 10 s: both ends of linspace
        lvb_row("long", 1000.0, [24 * 500, 24 * 333, 99999999], 3600),  # at 500 and 333 s
        lvb_row("corrupt", 1000.0, [99999999], 3600),
    ]
    (tmp_path / "lvb_val.json").write_text(json.dumps(rows))
    return tmp_path


LVB = ("benchmark=longvideobench", "benchmark.path=lvb_val.json", "benchmark.rows=null")


def recall(home: Path, *words: str) -> tuple[str, dict[str, Any]]:
    done = gens("recall", *LVB, *words, cwd=home)
    assert done.returncode == 0, done.stderr
    (file,) = home.glob("runs/recall-*/recall.json")
    return done.stdout, json.loads(file.read_text())


def figures(found: dict[str, Any]) -> dict[tuple[str, float], dict[str, float]]:
    return {
        (each["of"], at["tolerance"]): {
            "all": at["overall"]["recall"],
            **{group: mean["recall"] for group, mean in at["groups"]["duration_group"].items()},
        }
        for each in found["measured"]
        for at in each["recalls"]
    }


def test_recall_of_uniform_frames_needs_neither_model_nor_video(annotated: Path) -> None:
    printed, found = recall(annotated, "selection.budget=[3,4]", "tolerances=[1,2]")
    # Three frames of 1000 s lie at 0, 500 and 1000; four at 0, 333.3, 666.7 and 1000.
    assert figures(found) == {
        ("uniform k3", 1): {"all": 0.75, "15": 1.0, "3600": 0.5},
        ("uniform k3", 2): {"all": 0.75, "15": 1.0, "3600": 0.5},
        ("uniform k4", 1): {"all": 0.75, "15": 1.0, "3600": 0.5},
        ("uniform k4", 2): {"all": 0.75, "15": 1.0, "3600": 0.5},
    }
    assert [each["policy"] for each in found["measured"]] == ["uniform linspace budget=3", "uniform linspace budget=4"]
    assert "selected by: uniform linspace budget=3; uniform linspace budget=4" in " ".join(printed.split())
    for word in ("uniform k3", "0.750", "3600", "by duration_group", "1 of 3 questions have no evidence"):
        assert word in printed


def test_uniform_variants_differ(annotated: Path) -> None:
    _, found = recall(annotated, "sampler.spread=midpoint", "selection.budget=2", "tolerances=[1]")
    assert figures(found)["uniform k2", 1] == {"all": 0.0, "15": 0.0, "3600": 0.0}  # at 2.5, 7.5; at 250, 750


def test_the_oracle_finds_all_evidence(annotated: Path) -> None:
    _, found = recall(annotated, "sampler=oracle", "selection.budget=4", "tolerances=[1]")
    assert figures(found)["oracle k4", 1] == {"all": 1.0, "15": 1.0, "3600": 1.0}


def test_a_foreign_selection_is_measured(annotated: Path) -> None:
    (annotated / "mine.json").write_text(json.dumps({"short": [5.0, 9.5], "long": [501.0], "corrupt": [1.0]}))
    words = ("sampler=file", "sampler/format=seconds", "sampler.path=mine.json", "selection.budget=8", "tolerances=[1]")
    _, found = recall(annotated, *words)
    assert figures(found)["file k8", 1] == {"all": 0.5, "15": 0.5, "3600": 0.5}
    assert found["measured"][0]["frames"] == pytest.approx(4 / 3)


def test_whole_seconds_are_compared_where_a_benchmark_does_so(annotated: Path) -> None:
    (annotated / "mine.json").write_text(json.dumps({"short": [5.0], "long": [505.9, 600.0], "corrupt": [1.0]}))
    words = ("sampler=file", "sampler/format=seconds", "sampler.path=mine.json", "selection.budget=8", "tolerances=[5]")
    printed, found = recall(annotated, *words, "truncate=true")
    # 505 s is within 5 s of 500 s, and 505.9 s is not.
    overall = found["measured"][0]["recalls"][0]["overall"]
    assert overall == {"recall": 0.75, "questions": 2, "precision": 0.75, "f1": 0.75}
    assert "precision" in printed


def test_videos_that_are_missing_count_as_nothing_found(clips: Path) -> None:
    with (clips / "questions.jsonl").open("a") as file:
        file.write(json.dumps({"video": "none.mp4", "question": "what?", "evidence": [[0, 1]]}) + "\n")
    done = gens("recall", *MINE, "selection.budget=4", "tolerances=[1]", cwd=clips)
    assert done.returncode == 1
    assert "1 missing_video" in done.stderr
    (found,) = clips.glob("runs/recall-*/recall.json")
    overall = json.loads(found.read_text())["measured"][0]["recalls"][0]["overall"]
    # 3.67 s of 0, 3.67, 7.33, 11 is in the evidence, and a tolerance of 1 s takes in none of the others.
    expected = {"recall": 2 / 3, "questions": 3, "precision": 2 / 3 * 0.25, "f1": 2 / 3 * 0.4}
    assert overall == pytest.approx(expected)


def test_the_made_videos_have_evidence_too(tmp_path: Path) -> None:
    words = ("benchmark=micro", "benchmark.videos=1", f"benchmark.root={tmp_path}", "benchmark.max_minutes=3")
    done = gens("recall", *words, "sampler=oracle", "selection.budget=8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "oracle k8" in done.stdout
    assert "by kind" in done.stdout


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (["sampler=gens_micro"], "needs decoded frames", "gens recall selections="),
        (["group=duration"], "Did you mean 'duration_group'", "duration_group, question_category"),
        (["timeline=video"], "Did you mean 'videos'", "annotations, videos"),
        (["tolerances=[]"], "tolerances=[]", "tolerances=[1,2,5,10]"),
        (["truncate=5"], "truncate=5", "truncate=true"),
        (["selection.budget=[]"], "selection.budget=[]", "selection.budget=[8,16,32,64]"),
        (["selection.budget=[8,0]"], "selection.budget=0", "selection.budget="),
        (["selections=[nowhere.jsonl]"], "nowhere.jsonl: no such file", "gens sample"),
        (["sampler=file", "sampler.path=none.jsonl"], "there is no file none.jsonl", "sampler.path="),
        (["sampler=file", "sampler/format=ask", "sampler.path=x"], "Did you mean 'aks'", "gens_rag"),
        (["sampler=file", "sampler/format=aks", "sampler.path=x"], "sampler.format.annotations", "annotations="),
        (["benchmark.path=nowhere.json"], "there is no file nowhere.json", "benchmark.path="),
    ],
)
def test_a_recall_that_cannot_be_says_why(annotated: Path, words: list[str], problem: str, remedy: str) -> None:
    done = gens("recall", *LVB, *words, cwd=annotated)
    assert done.returncode == 2, done.stdout + done.stderr
    first, _, second = done.stderr.partition("what to do:")
    assert problem in first
    assert remedy in second
    assert "Traceback" not in done.stderr


def test_recall_of_the_real_benchmark_is_what_was_measured_before(tmp_path: Path) -> None:
    path = os.environ.get(ANNOTATIONS)
    if path is None:
        pytest.skip(f"needs the annotations of LongVideoBench: set {ANNOTATIONS}=.../lvb_val.json")
    done = gens("recall", LVB[0], f"benchmark.path={path}", "tolerances=[2]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("runs/recall-*/recall.json")
    found = [each["recalls"][0] for each in json.loads(file.read_text())["measured"]]
    assert [at["overall"]["questions"] for at in found] == [1337] * 4
    assert [at["overall"]["recall"] for at in found] == pytest.approx([0.276, 0.349, 0.424, 0.578], abs=1e-3)
    assert [at["overall"]["precision"] for at in found] == pytest.approx([0.090, 0.094, 0.096, 0.096], abs=1e-3)
    assert [at["overall"]["f1"] for at in found] == pytest.approx([0.129, 0.137, 0.139, 0.141], abs=1e-3)
    hours = [at["groups"]["duration_group"]["3600"]["recall"] for at in found]
    assert hours == pytest.approx([0.029, 0.050, 0.088, 0.228], abs=1e-3)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4", seconds=12, fps=4)
    rows = [
        {"video": "clip.mp4", "question": f"what is {id}?", "id": id, "evidence": [[3, 4]]}
        for id in ("first", "second")
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


MINE = ("benchmark=jsonl", "benchmark.path=questions.jsonl")


def rag(id: str, *images: str, **change: Any) -> str:
    row = {"id": id, "video_id": "clip", "video_path": "clip.mp4", "question": f"what is {id}?", "fps": 1.0}
    return json.dumps({**row, "rag_images": images, "rag_sim": [5 - n for n in range(len(images))], **change}) + "\n"


def test_a_foreign_file_runs_as_a_sampler_and_goes_out_again(clips: Path) -> None:
    (clips / "rag.jsonl").write_text(rag("second", "a/10.jpg", "a/2.jpg") + rag("first", "a/7.jpg"))
    sampled = gens("sample", *MINE, "sampler=file", "sampler.path=rag.jsonl", cwd=clips)
    assert sampled.returncode == 0, sampled.stderr
    (selections,) = clips.glob("runs/sample-jsonl-file-*/selections.jsonl")
    chosen = {row.question.id: row.selection.frames for row in rows_of(SelectionRow, selections)}
    assert [(frame.time, frame.index, frame.score) for frame in chosen["second"]] == [(2, 8, 4), (10, 40, 5)]
    assert [frame.time for frame in chosen["first"]] == [7]

    for form in ("seconds", "gens_rag"):
        exported = gens("export", f"selections={selections}", f"form={form}", cwd=clips)
        assert exported.returncode == 0, exported.stderr
    assert json.loads(selections.with_suffix(".seconds.json").read_text()) == {"first": [7.0], "second": [2.0, 10.0]}
    again = selections.with_suffix(".gens_rag.jsonl")
    back = gens("sample", *MINE, "sampler=file", f"sampler.path={again}", "paths.runs=back", cwd=clips)
    assert back.returncode == 0, back.stderr
    (returned,) = clips.glob("back/*/selections.jsonl")
    assert {row.question.id: row.selection.frames for row in rows_of(SelectionRow, returned)} == chosen

    measured = gens("recall", *MINE, f"selections=[{selections}]", "selection.budget=4", "tolerances=[1]", cwd=clips)
    assert measured.returncode == 0, measured.stderr
    (file,) = clips.glob("runs/recall-*/recall.json")
    by_name = {each["of"]: each["recalls"][0]["overall"] for each in json.loads(file.read_text())["measured"]}
    # One frame of "first" at 7 s, and "second" at 2 and 10 s; the evidence is 3 to 4 s.
    assert by_name[str(selections)] == {"recall": 0.5, "questions": 2, "precision": 0.25, "f1": pytest.approx(1 / 3)}
    assert "no row" not in measured.stdout
    lines = selections.read_text().splitlines(keepends=True)
    (clips / "part.jsonl").write_text(lines[0])
    part = gens("recall", *MINE, "selections=[part.jsonl]", "selection.budget=4", cwd=clips)
    assert "part.jsonl has no row for 1 questions" in part.stdout
    (clips / "lvb_val.json").write_text(json.dumps([lvb_row("fist", 10.0, [24], 15)]))
    other = gens("recall", *LVB, f"selections=[{selections}]", cwd=clips)
    assert other.returncode == 2
    assert "'first' is not asked by this benchmark. Did you mean 'fist'?" in other.stderr
    assert by_name["uniform k4"]["recall"] == 1.0  # 3.75 s is in the evidence


@pytest.mark.parametrize(
    ("rows", "problem", "remedy"),
    [
        (rag("first", "1.jpg") + rag("secnd", "1.jpg"), "'secnd' is not the id", "sampler.surplus=ignore"),
        (rag("first", "1.jpg"), "no row for the question 'second'", "sampler.missing=record"),
        (rag("first", "1.jpg") + rag("first", "2.jpg"), "rag.jsonl:2: the id 'first' is at", "remove one of the rows"),
        (rag("first", "1.jpg") + rag("second", "12.jpg", "13.jpg"), "rag.jsonl:2: second 13.000 is not in", "videos"),
        (rag("first", "1.jpg") + rag("second", "1.jpg", question="who?"), "the row asks 'who?'", "benchmark"),
    ],
)
def test_a_row_that_does_not_match_ends_the_command_before_a_model_is_loaded(
    clips: Path, rows: str, problem: str, remedy: str
) -> None:
    (clips / "rag.jsonl").write_text(rows)
    done = gens("evaluate", *MINE, "sampler=file", "sampler.path=rag.jsonl", "answerer=qwen2_vl_micro", cwd=clips)
    assert done.returncode == 2, done.stdout + done.stderr
    first, _, second = done.stderr.partition("what to do:")
    assert problem in first
    assert remedy in second
    assert "Traceback" not in done.stderr
    assert not list(clips.glob("runs/*/answers.jsonl"))


def test_native_frames_of_a_clip_are_those_of_the_whole_video_in_recall_as_in_a_run(tmp_path: Path) -> None:
    """The images begin at second 10 and have gaps, so that neither a clip's start nor the average rate may be taken."""
    for second in (10, 11, 12, 30, 31, 32, 33, 90, 91, 92):
        path = tmp_path / "film" / f"sec{second:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (second, 0, 0)).save(path)
    row = {"video": "film", "question": "what?", "id": "q", "span": [26, 90], "evidence": [[32, 32]]}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "frag.jsonl").write_text(json.dumps({"id": "q", "frames": [5, 6], "scores": [2, 1]}) + "\n")
    words = (*MINE, "sampler=file", "sampler/format=frag", "sampler.path=frag.jsonl", "selection.budget=2")
    sampled = gens("sample", *words, cwd=tmp_path)
    assert sampled.returncode == 0, sampled.stderr
    (selections,) = tmp_path.glob("runs/sample-*/selections.jsonl")
    (chosen,) = rows_of(SelectionRow, selections)
    assert [(frame.time, frame.index) for frame in chosen.selection.frames] == [(32, 5), (33, 6)]
    measured = gens("recall", *words, f"selections=[{selections}]", "tolerances=[0]", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    (file,) = tmp_path.glob("runs/recall-*/recall.json")
    found = [each["recalls"][0]["overall"] for each in json.loads(file.read_text())["measured"]]
    assert found == [{"recall": 1.0, "questions": 1, "precision": 0.5, "f1": pytest.approx(2 / 3)}] * 2
    checked = gens("check", *words, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout


def test_a_question_without_evidence_is_a_failure_of_the_oracle_and_of_the_export(clips: Path) -> None:
    with (clips / "questions.jsonl").open("a") as file:
        file.write(json.dumps({"video": "clip.mp4", "question": "why?", "id": "third"}) + "\n")
    sampled = gens("sample", *MINE, "sampler=oracle", cwd=clips)
    assert sampled.returncode == 1
    assert "1 no_evidence" in sampled.stderr
    (relevance,) = clips.glob("runs/sample-*/relevance.jsonl")
    assert [row.relevance.status.value for row in rows_of(RelevanceRow, relevance)] == ["ok", "ok", "no_evidence"]
    exported = gens("export", f"selections={relevance.parent}/selections.jsonl", "form=seconds", cwd=clips)
    assert exported.returncode == 1
    assert "1 no_evidence" in exported.stderr
