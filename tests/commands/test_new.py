"""``gens new``: what it writes passes its own test and runs by the very command that is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import gens
from readme_blocks import ROOT
from rows_on_disk import rows_of

from pipeline.artefacts.rows import AnswerRow

KINDS = {"sampler": "sampler", "answerer": "answerer", "policy": "selection"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made videos and the cache."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def home(shared: Path, tmp_path: Path) -> Path:
    (shared / "data").mkdir(exist_ok=True)
    (tmp_path / "data").symlink_to(shared / "data")
    return tmp_path


def in_shell(command: str, home: Path, shared: Path) -> subprocess.CompletedProcess[str]:
    """Run a printed command as it stands; ``gens`` and ``python`` are those of the tests."""
    programs = home / "programs"
    programs.mkdir(exist_ok=True)
    for name, what in {"gens": "-m pipeline", "python": ""}.items():
        text = f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{ROOT}" exec "{sys.executable}" {what} "$@"\n'
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {"GENS_CACHE": str(shared / "cache"), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=home,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def printed(said: str, what: str) -> str:
    (line,) = re.findall(rf"^{what}: +(.+)$", said, re.MULTILINE)
    return line


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        ("sampler", "my folder"),
        pytest.param("answerer", ".", marks=pytest.mark.long),
        pytest.param("policy", ".", marks=pytest.mark.long),
    ],
)
def test_what_is_written_passes_its_test_and_runs(kind: str, folder: str, home: Path, shared: Path) -> None:
    into = [] if folder == "." else ["--into", folder]
    done = gens("new", kind, "acme_part", *into, cwd=home)
    assert done.returncode == 0, done.stderr
    tested = in_shell(printed(done.stdout, "test it"), home, shared)
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout
    command = printed(done.stdout, "run it").replace("benchmark.videos=4", "benchmark.videos=1 limit=2")
    ran = in_shell(command, home, shared)
    assert ran.returncode == 0, ran.stderr
    (answers,) = home.glob("runs/*/answers.jsonl")
    rows = rows_of(AnswerRow, answers)
    assert len(rows) == 2
    assert all(row.answer.status == "ok" for row in rows)
    assert f"{KINDS[kind]}:\n" in (answers.parent / "config.yaml").read_text()
    assert "acme_part." in (answers.parent / "config.yaml").read_text()
    if kind == "answerer":
        asked = re.sub(r" benchmark\S+| limit=2", "", command.replace("evaluate", "ask sampler=uniform"))
        (video,) = home.glob("data/micro/*-0000.mp4")
        ran = in_shell(f"{asked} video={video} question='What is it?' options='[red, blue]'", home, shared)
        assert ran.returncode == 0, ran.stderr
        assert "answer: A. red" in ran.stdout
    if kind == "policy":
        (home / "acme_part" / "__init__.py").write_text("def choose(times, scores, count, apart): ...\n")
        ran = in_shell(command, home, shared)
        assert ran.returncode == 1, "the command does not call the policy"
        assert "2 of 2 failed: 2 invalid_output" in ran.stderr + ran.stdout


def test_it_is_written_where_new_files_are_found_anyway(home: Path) -> None:
    (home / "settings").mkdir()
    (home / "pyproject.toml").write_text('[tool.gens-videoqa]\nconfig_dir = "settings"\nplugins = ["other"]\n')
    done = gens("new", "policy", "acme_part", cwd=home)
    assert (home / "settings" / "selection" / "acme_part.yaml").is_file()
    command = printed(done.stdout, "run it")
    assert "--config-dir" not in command
    assert "'plugins=[acme_part,other]'" in command
    assert command.endswith(" selection.budget=2")  # by the default nearly no question has frames left to choose from


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (("smapler", "x"), "Did you mean 'sampler'", "gens new sampler NAME"),
        (("sampler", "clip"), "sampler=clip is there already", "my_clip"),
        (("policy", "numpy"), "numpy is the name of another package", "gens new policy my_numpy"),
        (("answerer", "json"), "json is the name of another package", "my_json"),
        (("answerer", "a-b"), "a-b is not the name of a Python package", "gens new answerer my_answerer"),
        (("answerer",), "name is missing", "gens new answerer NAME"),
        ((), "kind is missing", "gens new sampler NAME"),
        (("answerer", "acme_part"), "acme_part/__init__.py is there already, and is left as it is", "--into FOLDER"),
    ],
)
def test_what_cannot_be_written_is_refused(home: Path, words: tuple[str, ...], problem: str, remedy: str) -> None:
    (home / "acme_part").mkdir()
    (home / "acme_part" / "__init__.py").write_text("MINE = 1\n")
    before = sorted(home.rglob("*"))
    done = gens("new", *words, cwd=home)
    assert done.returncode == 2
    told, _, todo = done.stderr.partition("what to do:")
    assert problem in told
    assert remedy in todo
    assert sorted(home.rglob("*")) == before
