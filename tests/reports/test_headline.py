"""The heading of a page says what was found, and no more than the figures show."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
from sweep_on_disk import Sweep
from thousand import make_thousand

from pipeline.domain import Answer, Question
from pipeline.reports.headline import finding, headline
from pipeline.reports.page import report_of, write_report
from pipeline.reports.question_sets import question_sets
from pipeline.reports.runs import RunArtefacts, collect
from pipeline.reports.scoreboard import score
from pipeline.reports.thumbnails import VideoThumbnails
from pipeline.video import Reader

READER = Reader(name="default", backend="auto", threads=1, image_fps=1.0)
THUMBNAILS = VideoThumbnails(READER, 160, 70)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> list[RunArtefacts]:
    """Two samplers x two answerers x two budgets over 24 questions of eight videos."""
    folder = tmp_path_factory.mktemp("matrix")
    samplers, answerers = ["uniform", "gens_3b"], ["gpt4o", "qwen2_vl_7b"]
    return collect([make_thousand(folder, samplers, answerers, [4, 8], 24, videos=8, told_seconds=60)])


def _right(run: RunArtefacts, wrong: set[int]) -> RunArtefacts:
    """The run with every answer right but those at the places in ``wrong``."""

    def said(question: Question, place: int) -> Answer:
        assert question.options is not None
        assert question.correct is not None
        off = 1 if place in wrong else 0
        return Answer(question.id, "", (question.correct + off) % len(question.options))

    rows = tuple(
        replace(row, answer=said(row.question, place))
        for place, row in enumerate(sorted(run.answers, key=lambda row: row.question.id))
    )
    return replace(run, answers=rows)


def _found(*runs: RunArtefacts) -> str:
    (one,) = question_sets([score(run) for run in runs])
    return finding(one)


def _run(matrix: list[RunArtefacts], sampler: str, answerer: str, budget: int) -> RunArtefacts:
    return next(run for run in matrix if (run.sampler, run.answerer, run.budget) == (sampler, answerer, budget))


def test_a_run_beats_another_only_where_the_interval_excludes_zero(matrix: list[RunArtefacts]) -> None:
    uniform, gens = (_run(matrix, sampler, "gpt4o", 8) for sampler in ("uniform", "gens_3b"))
    worse = _right(uniform, set(range(0, 24, 2)))
    told = _found(worse, _right(gens, {0}))
    assert told == "gens_3b beats uniform by 45.8 points (3.9 to 87.8), 24 questions"
    assert _found(_right(gens, {0}), worse) == told, "the winner is named first, whichever comes first"
    told = _found(_right(uniform, {1, 2}), _right(gens, {1}))
    assert told.startswith("No difference shown between gens_3b and uniform: 4.2 points (-")
    assert _found(_right(uniform, {1}), _right(gens, {1})).startswith("No difference shown between gens_3b and uniform")


def test_the_best_of_many_runs_is_held_against_uniform_at_equal_frames(matrix: list[RunArtefacts]) -> None:
    wrong = {
        ("uniform", "gpt4o", 4): 20,
        ("uniform", "gpt4o", 8): 10,
        ("uniform", "qwen2_vl_7b", 4): 24,
        ("uniform", "qwen2_vl_7b", 8): 22,
        ("gens_3b", "gpt4o", 4): 12,
        ("gens_3b", "gpt4o", 8): 1,
        ("gens_3b", "qwen2_vl_7b", 4): 8,
        ("gens_3b", "qwen2_vl_7b", 8): 6,
    }
    runs = [_right(_run(matrix, *key), set(range(count))) for key, count in wrong.items()]
    told = _found(*runs)
    assert told.startswith("gens_3b beats uniform by 37.5 points (")
    assert " at 8 frames with gpt4o" in told
    assert told.endswith("24 questions; the best of 4 comparisons with uniform")


def test_an_unfinished_run_beats_nothing(matrix: list[RunArtefacts]) -> None:
    uniform, gens = (_run(matrix, sampler, "gpt4o", 8) for sampler in ("uniform", "gens_3b"))
    stopped = replace(uniform, answers=uniform.answers[:3])
    assert "beats" not in _found(stopped, _right(gens, set()))


def test_date_commit_and_gpu_stand_below(sweep: Sweep, tmp_path: Path) -> None:
    copytree(sweep.folder, tmp_path / "runs")
    for number, file in enumerate(sorted((tmp_path / "runs").rglob("run.json"))):
        facts = json.loads(file.read_text()) | {
            "started": f"2026-11-2{number}T10:00:00+00:00",
            "host": "secret-host",
            "gpu": "NVIDIA H100",
            "commit": f"{'0123456789abcdef' * 3}-dirty",
        }
        file.write_text(json.dumps(facts))
    runs = collect([tmp_path / "runs"])
    found = headline(runs, question_sets([score(run) for run in runs]))
    assert found.facts == ("two_videos", "2026-11-20 to 2026-11-23", "commit 0123456789ab-dirty", "NVIDIA H100")
    text = write_report(runs, THUMBNAILS, tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<h1>No difference shown between gens_micro and uniform: [^<]+, 5 questions; ", text)
    assert "commit 0123456789ab-dirty · NVIDIA H100" in text
    assert "secret-host" not in text


def test_ask_leads_with_its_answer_and_stays_out_of_collections(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = collect([sweep.folder])
    one = {runs[0].questions[0].id}
    asked = replace(runs[0].within(one), name="asked", settings="question: What?\nsampler: {name: gens_micro}\n")
    text = write_report([asked], THUMBNAILS, tmp_path / "ask.html").read_text(encoding="utf-8")
    assert "<h1>B. Red</h1>" in text
    assert '<p class="kicker">What colour is the disc' in text
    assert text.index("<article") < text.index('id="accuracy-heading"')
    right_unknown = replace(asked, asked=tuple(replace(each, correct=None) for each in asked.questions))
    text = write_report([right_unknown], THUMBNAILS, tmp_path / "ungraded.html").read_text(encoding="utf-8")
    assert 'id="accuracy-heading"' not in text
    report_of([*runs, asked], READER, tmp_path / "all.html")
    assert "left out: 1 of gens ask" in capsys.readouterr().err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["runs"]) == 4
