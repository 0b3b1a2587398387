"""Whole commands over real files with tiny random models."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from command_line import gens, gens_apart
from made import write_video
from rows_on_disk import rows_of
from tiny import write_llava_onevision, write_qwen2_5_vl, write_qwen2_vl

from pipeline.artefacts.rows import AnswerRow, SelectionRow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_qwen2_5_vl(folder / "sampler")
    write_qwen2_vl(folder / "qwen")
    write_llava_onevision(folder / "llava")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4")
    rows = [
        {"video": "clip.mp4", "question": f"what is {what}?", "options": ["a", "b", "c"], "answer": "b", "id": what}
        for what in ("first", "second", "third")
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


MINE = ("benchmark=jsonl", "benchmark.path=questions.jsonl")


def sampler(models: Path) -> list[str]:
    return [
        "sampler=gens_3b",
        f"sampler.checkpoint.source={models / 'sampler'}",
        "sampler.frame={height: 56, width: 56}",
        "sampler.max_new_tokens=8",
        "selection=topk_filled",
        "selection.budget=4",
    ]


def qwen(models: Path) -> list[str]:
    return ["answerer=qwen2_vl_7b", f"answerer.checkpoint.source={models / 'qwen'}"]


def llava(models: Path) -> list[str]:
    return ["answerer=llava_onevision_7b", f"answerer.checkpoint.source={models / 'llava'}"]


def only(paths: list[Path]) -> Path:
    assert len(paths) == 1
    return paths[0]


def test_a_selection_file_is_all_that_an_answerer_needs(home: Path, models: Path) -> None:
    sampled = gens("sample", *MINE, *sampler(models), cwd=home)
    assert sampled.returncode in (0, 1), sampled.stderr
    selections = only(list(home.glob("runs/sample-*/selections.jsonl")))
    assert str(selections.relative_to(home)) in sampled.stdout
    # A random model writes no scores: told for each question and each window, though fallback frames were selected.
    assert "questions: 3 of 3 failed" in sampled.stderr
    assert re.search(r"sampler, windows: 3 (truncated_output|no_scores)", sampled.stderr)

    alone = home / "elsewhere"
    alone.mkdir()
    shutil.copy(selections, alone / "chosen.jsonl")
    for answerer in (qwen(models), llava(models)):
        answered = gens("answer", "selections=chosen.jsonl", *answerer, cwd=alone)
        assert answered.returncode in (0, 1), answered.stderr
    chosen = {row.question.id: row for row in rows_of(SelectionRow, selections)}
    answers = sorted(alone.glob("runs/answer-*/answers.jsonl"))
    assert len(answers) == 2
    for path in answers:
        rows = rows_of(AnswerRow, path)
        assert sorted(row.question.id for row in rows) == ["first", "second", "third"]
        for row in rows:
            assert row.answer.frame_times == tuple(frame.time for frame in chosen[row.question.id].selection.frames)
    assert len(list(alone.glob("runs/*/report.html"))) == 2


def test_a_sweep_keeps_its_good_jobs_and_goes_on(home: Path, models: Path) -> None:
    words = ["evaluate", "-m", *MINE, "sampler=uniform", "selection.budget=2,0,4", *qwen(models)]
    swept = gens(*words, cwd=home)
    assert swept.returncode == 2
    assert "selection.budget=8" in swept.stderr
    assert "Traceback" not in swept.stderr
    runs = sorted(path.parent for path in home.glob("runs/evaluate-*/answers.jsonl"))
    assert [path.name.split("-")[-2] for path in runs] == ["k2", "k4"]

    before = [(path / "answers.jsonl").read_bytes() for path in runs]
    gens("evaluate", *MINE, "sampler=uniform", "selection.budget=2", *qwen(models), cwd=home)
    assert sorted(path.parent for path in home.glob("runs/evaluate-*/answers.jsonl")) == runs
    assert [(path / "answers.jsonl").read_bytes() for path in runs] == before

    reported = gens("report", "runs=runs", cwd=home)
    assert reported.returncode == 0, reported.stderr
    page = (home / "runs" / "report.html").read_text()
    assert "budget=2" in page
    assert "budget=4" in page


def test_ask_prints_the_moments_and_writes_the_page(home: Path, models: Path) -> None:
    asked = gens_apart(
        *("ask", "video=clip.mp4", "question=what is it, then?", *sampler(models), *qwen(models)), cwd=home
    )
    assert asked.returncode in (0, 1), asked.stderr
    folder = only(list(home.glob("runs/ask-*")))
    row = rows_of(AnswerRow, folder / "answers.jsonl")[0]
    assert row.question.text == "what is it, then?"
    for time in row.answer.frame_times:
        assert f"({time:.2f} s)" in asked.stdout
    assert (folder / "report.html").is_file()


def test_a_video_shorter_than_a_second_has_one_moment(home: Path, models: Path) -> None:
    write_video(home / "blink.mp4", seconds=1, fps=2, drop=1)
    asked = gens("ask", "video=blink.mp4", "question=what?", *sampler(models), *qwen(models), cwd=home)
    assert asked.returncode in (0, 1), asked.stderr
    row = rows_of(AnswerRow, only(list(home.glob("runs/ask-*/answers.jsonl"))))[0]
    assert row.answer.frame_times == (0.0,)


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (["sampler.checkpoint.source=/nowhere/model"], "/nowhere/model", "sampler.checkpoint.source="),
        (["sampler.checkpoint.source=nobody/nothing"], "nobody/nothing", "sampler.checkpoint.source="),
        (["answerer.checkpoint.source=nobody/nothing"], "nobody/nothing", "answerer.checkpoint.source="),
        (["answerer.checkpoint.attention=flash_attention_2"], "flash", "answerer.checkpoint.attention=sdpa"),
        (["answerer.checkpoint.device=cuda:7"], "cuda:7", "answerer.checkpoint.device="),
        (["paths.cache=questions.jsonl"], "questions.jsonl", "paths.cache="),
        (["paths.runs=questions.jsonl"], "questions.jsonl", "paths.runs="),
    ],
)
def test_what_cannot_run_says_which_override_helps(
    home: Path, models: Path, words: list[str], problem: str, remedy: str
) -> None:
    done = gens("evaluate", *MINE, *sampler(models), *qwen(models), *words, cwd=home)
    assert done.returncode == 2, done.stderr
    first, _, second = done.stderr.rpartition("what to do:")
    assert problem in first
    assert remedy in second
    assert "Traceback" not in done.stderr


def test_a_second_process_is_refused_and_leaves_the_outcome_of_the_first_alone(home: Path, models: Path) -> None:
    from pipeline.artefacts.journal import sole_writer
    from pipeline.commands.outcome import JobStatus, read_outcome

    words = ("evaluate", *MINE, "sampler=uniform", *qwen(models))
    gens(*words, cwd=home)
    folder = only(list(home.glob("runs/evaluate-*")))
    with sole_writer(folder):
        refused = gens(*words, cwd=home)
    assert refused.returncode == 2
    assert "another process is using" in refused.stderr
    outcome = read_outcome(folder)
    assert outcome.status is not JobStatus.FAILED


def test_without_a_network_a_checkpoint_that_is_not_here_is_told_at_once(home: Path) -> None:
    """As on a cluster's node: the hub is not asked again and again."""
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(home / "hf")}
    told = gens_apart("evaluate", *MINE, "sampler=uniform", "answerer=qwen2_vl_7b", cwd=home, **nowhere)
    assert told.returncode == 2
    assert "Qwen/Qwen2-VL-7B-Instruct is not in the local cache, and the hub cannot be reached" in told.stderr
    assert "Retrying" not in told.stderr
