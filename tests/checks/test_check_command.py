"""``gens check`` as a user meets it, over real files, without torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import gens
from hydra import compose, initialize_config_dir
from made import write_cut_video, write_video
from tiny import write_qwen2_5_vl, write_qwen2_vl

from pipeline.checks import Level
from pipeline.commands.check import make_report
from pipeline.config import conf_dir, register_resolvers


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_qwen2_5_vl(folder / "sampler")
    write_qwen2_vl(folder / "answerer", context=2048)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4", seconds=6)
    write_video(tmp_path / "other.mp4", seconds=9, seed=1)
    write_questions(tmp_path, "clip.mp4", "other.mp4")
    return tmp_path


def write_questions(home: Path, *films: str) -> None:
    rows = [
        {"video": film, "question": f"what is {what}?", "options": ["a", "b", "c"], "answer": "b", "id": film + what}
        for film in films
        for what in ("first", "second")
    ]
    (home / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def words(models: Path, *more: str) -> list[str]:
    return [
        *("benchmark=jsonl", "benchmark.path=questions.jsonl"),
        *("sampler=gens_3b", f"sampler.checkpoint.source={models / 'sampler'}"),
        *("sampler.frame={height: 56, width: 56}", "sampler.max_new_tokens=8"),
        *("selection=topk_filled", "selection.budget=4"),
        *("answerer=qwen2_vl_7b", f"answerer.checkpoint.source={models / 'answerer'}"),
        *more,
    ]


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout)


def test_what_can_run_is_said_without_torch_and_without_a_run_folder(home: Path, models: Path) -> None:
    probe = (
        "import sys; from pipeline.cli import main;"
        f"sys.argv = ['gens', 'check', *{words(models)!r}]; code = main();"
        "heavy = {'torch', 'transformers', 'torchvision'} & set(sys.modules); print(heavy, file=sys.stderr);"
        "sys.exit(10 * len(heavy) + code)"
    )
    command = [sys.executable, "-c", f"import os; os.environ['GENS_CACHE'] = 'cache'; {probe}"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this can run" in done.stdout
    printed = " ".join(done.stdout.split())
    assert "2 windows of 2 videos for 4 questions; in the relevance cache: 0 questions" in printed
    assert re.search(
        r"sampler: [\d.]+ MiB of weights and 1 x [\d.]+ MiB of keys and values, of [\d.]+ GiB on ", printed
    )
    assert sorted(path.name for path in home.iterdir()) == ["cache", "clip.mp4", "other.mp4", "questions.jsonl"]


def test_what_is_missing_is_exit_1_and_listed(home: Path, models: Path) -> None:
    write_cut_video(home / "cut.mp4")
    write_questions(home, "clip.mp4", "gone.mp4", "cut.mp4")
    done = gens("check", "--json", *words(models), cwd=home)
    assert done.returncode == 1
    found = told(done)
    assert found["exit_code"] == 1
    assert found["videos"]["missing"] == [str(home / "gone.mp4")]
    assert list(found["videos"]["too_short"]) == [str(home / "cut.mp4")]
    assert {finding["level"] for finding in found["findings"]} == {"some_fail"}


def test_a_budget_above_the_limit_is_exit_2_and_the_rule_that_cuts_is_not(home: Path, models: Path) -> None:
    write_video(home / "clip.mp4", seconds=100, size=256)
    above = words(models, "selection.budget=200")
    some = gens("check", *above, cwd=home)
    assert some.returncode == 1  # the questions of the other video fit
    write_questions(home, "clip.mp4")
    refused = gens("check", *above, cwd=home)
    assert refused.returncode == 2
    said = " ".join(refused.stdout.split())
    assert "selection.budget=200 is above the limit" in said
    assert "over_limit=keep_best" in said
    cut = gens("check", "--json", *above, "over_limit=keep_best", cwd=home)
    assert cut.returncode == 0
    (note,) = told(cut)["findings"]
    fitting = told(cut)["answerer"]["fitting_budget"]
    assert note["level"] == "note"
    assert f"selection.budget={fitting}" in note["remedy"]
    assert gens("check", *words(models, f"selection.budget={fitting}"), cwd=home).returncode == 0


@pytest.mark.parametrize(
    ("more", "problem", "remedy"),
    [
        (["sampler.checkpoint.source=/nowhere/model"], "/nowhere/model", "sampler.checkpoint.source="),
        (["answerer.checkpoint.source=nobody/nothing"], "nobody/nothing", "answerer.checkpoint.source="),
        (["answerer.checkpoint.device=cuda:7"], "here", "answerer.checkpoint.device=auto"),
        (["sampler=file", "sampler.path=chosen.jsonl", "sampler/format=seconds"], "chosen.jsonl", "sampler.path="),
    ],
)
def test_what_cannot_run_is_exit_2_with_all_else_reported(
    home: Path, models: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], problem: str, remedy: str
) -> None:
    given = words(models, f"paths.cache={home / 'cache'}", *more)
    if "sampler=file" in more:
        given = [word for word in given if not word.startswith("sampler") or word in more]
    monkeypatch.chdir(home)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        report = make_report(compose("check", given))
    assert report.exit_code == 2
    assert report.questions == 4
    assert len(report.videos.probes) == 2
    fatal = [finding for finding in report.findings if finding.level == Level.CANNOT_RUN]
    assert problem in fatal[0].problem
    assert remedy in fatal[0].remedy
    if "nobody/nothing" in more[0]:
        assert ("answerer", None, "20 GB on the GPU") in [(s, held.weights, held.stated) for s, held in report.held]


def test_after_a_run_nothing_is_left_and_its_pace_is_known(home: Path, models: Path) -> None:
    ran = gens("evaluate", *words(models), cwd=home)
    assert ran.returncode in (0, 1), ran.stderr
    before = sorted(path for path in (home / "runs").rglob("*"))
    after = told(gens("check", "--json", *words(models), cwd=home))
    assert after["questions"] == {"asked": 4, "answered": 4}
    assert after["sampler"]["questions_cached"] + after["sampler"]["questions_open"] == 4
    assert after["seconds"]["answering"]["amount"] == 0.0
    # A larger budget is another run: the same model over more frames.
    more = told(gens("check", "--json", *words(models, "selection.budget=6"), cwd=home))
    assert more["questions"]["answered"] == 0
    assert more["seconds"]["answering"]["amount"] > 0
    assert "evaluate-jsonl-gens_3b" in more["seconds"]["answering"]["source"]
    assert sorted(path for path in (home / "runs").rglob("*")) == before


def test_a_sweep_is_checked_job_by_job(home: Path, models: Path) -> None:
    done = gens("check", "-m", *words(models, "sampler=uniform"), "selection.budget=2,4", cwd=home)
    # gens_3b's own keys are none of uniform's: told as everywhere.
    assert done.returncode == 2
    given = [word for word in words(models) if not word.startswith(("sampler", "selection.budget"))]
    done = gens("check", "-m", *given, "sampler=uniform", "selection.budget=2,4", cwd=home, TMPDIR=str(home / "cache"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("this can run") == 2
    assert not (home / "runs").exists()
    assert not (home / "multirun.yaml").exists()
