"""Folders of YAML files that stand in the environment or in a project, and trust, which no project gives."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from command_line import gens, gens_apart
from made import write_video

OPTION = {
    "defaults": ["function", "_self_"],
    "name": "mine",
    "about": {"what": "mine alone"},
    "function": "acme_own.score",
}
SCORE = "open('MADE', 'w').close()\ndef score(question, frames):\n    return [1.0] * len(frames)\n"
SAMPLE = ("sample", "benchmark=jsonl", "benchmark.path=q.jsonl", "sampler=mine")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project that comes with a package and an option."""
    (tmp_path / "acme_own.py").write_text(SCORE)
    write_video(tmp_path / "clip.mp4")
    (tmp_path / "q.jsonl").write_text('{"id": "q", "video": "clip.mp4", "question": "what?"}\n')
    write(tmp_path / "settings" / "sampler" / "mine.yaml", OPTION)
    return tmp_path


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def project(home: Path, *lines: str) -> None:
    (home / "pyproject.toml").write_text("\n".join(["[tool.gens-videoqa]", *lines, ""]))


def test_a_folder_of_the_environment_is_searched_and_comes_first(home: Path) -> None:
    write(home / "settings" / "selection" / "topk.yaml", {"name": "another"})
    for words in (["--cfg", "job"], ["--cfg", "job", "-m"]):
        shown = gens("sample", "sampler=mine", *words[:2], cwd=home, GENS_CONFIG="settings")
        assert "name: mine" in shown.stdout, shown.stderr
        assert "name: another" in shown.stdout
    assert "mine alone" in gens("list", "samplers", cwd=home, GENS_CONFIG="settings").stdout
    wrong = gens("sample", "sampler=mien", cwd=home, GENS_CONFIG="settings")
    assert "Did you mean 'mine'" in wrong.stderr
    assert "sampler=mine: no such option" in gens("sample", "sampler=mine", cwd=home).stderr


def test_a_folder_of_the_environment_that_is_not_there_is_told(home: Path) -> None:
    for words in (["list"], ["sample", "--cfg", "job"]):
        done = gens(*words, cwd=home, GENS_CONFIG="nowhere")
        assert done.returncode == 2
        assert "GENS_CONFIG=nowhere: there is no such folder" in done.stderr


def test_a_folder_of_the_project_is_searched_from_below_too(home: Path) -> None:
    project(home, 'config_dir = "settings"')
    (home / "below" / "deep").mkdir(parents=True)
    for folder in (home, home / "below" / "deep"):
        assert "name: mine" in gens("sample", "sampler=mine", "--cfg", "job", cwd=folder).stdout
        assert "mine alone" in gens("list", "samplers", cwd=folder).stdout


@pytest.mark.parametrize("name", ["sampler/uniform", "sample", "answerer/prompt/letter"])
def test_a_folder_of_the_project_replaces_nothing(home: Path, name: str) -> None:
    """It may come with somebody's data, and an option of ours may be given a key: answerer=gpt4o, say."""
    project(home, 'config_dir = "settings"')
    write(home / "settings" / f"{name}.yaml", {"name": "evil"})
    for words in (["list"], ["sample", "sampler=uniform", "--cfg", "job"]):
        done = gens(*words, cwd=home)
        assert done.returncode == 2
        assert f"{name}.yaml has the name of one of our own files" in done.stderr
    variable, _, folder = done.stderr.rpartition("export ")[2].strip().partition("=")
    assert gens("list", cwd=home, **{variable: folder}).returncode == 0
    assert gens("list", "--config-dir", "settings", cwd=home).returncode == 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('config_dri = "settings"', "no key config_dri. Did you mean 'config_dir'"),
        ('config_dir = "nowhere"', "there is no such folder"),
        ("config_dir = 3", "cannot be used"),
        ('plugins = "acme_own"', "cannot be used"),
        ("config_dir = ", "pyproject.toml cannot be read"),
    ],
)
def test_a_project_that_cannot_be_read_is_told(home: Path, line: str, told: str) -> None:
    project(home, line)
    done = gens("list", cwd=home)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_project_without_the_table_is_none(home: Path) -> None:
    (home / "pyproject.toml").write_text("[tool.other\nbroken")
    assert gens("list", "samplers", cwd=home).returncode == 0


def test_a_project_is_not_trusted_and_the_line_that_is_told_works(home: Path) -> None:
    project(home, 'config_dir = "settings"', 'plugins = ["acme_own"]')
    on_path = {"PYTHONPATH": f"{Path(__file__).parent.parent}:{home}"}
    for words in (SAMPLE, (*SAMPLE[:1], "-m", *SAMPLE[1:]), (*SAMPLE, "sampler=uniform")):
        done = gens_apart(*words, cwd=home, **on_path)
        assert done.returncode == 2, done.stdout
        assert "does not say what is trusted" in done.stderr
        assert not (home / "MADE").exists()
        assert not (home / "runs").exists()
    (told,) = re.findall(r"say so yourself: (.+)$", done.stderr, re.MULTILINE)
    done = gens_apart(*SAMPLE, *shlex.split(told), cwd=home, **on_path)
    assert done.returncode == 0, done.stderr
    assert (home / "MADE").exists()
    assert gens_apart(*SAMPLE, cwd=home, GENS_PLUGINS="acme_own", **on_path).returncode == 0


def test_what_builds_no_plug_in_needs_no_trust(home: Path) -> None:
    project(home, 'plugins = ["acme_own"]')
    done = gens("report", "runs=nowhere", cwd=home)
    assert "no run in nowhere" in done.stderr


def test_what_is_told_to_type_keeps_what_is_trusted_already(home: Path) -> None:
    project(home, 'plugins = ["acme_own"]')
    done = gens(*SAMPLE[:3], "sampler=uniform", "plugins=[other]", cwd=home)
    assert "plugins=[other,acme_own]" in done.stderr


def test_a_function_is_trusted_as_a_class_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(home)
    (home / "acme_own.py").write_text(
        "import os\nfrom os.path import join\nVALUE = 1\ndef fine(question, frames): ...\n"
    )
    words = ("sample", "benchmark=jsonl", "benchmark.path=q.jsonl", "sampler=function")
    for function, trusted, told in (
        ("acme_own.fine", "[]", "plugins=[acme_own]"),
        ("os.system", "[acme_own]", "os is a part of Python"),
        ("acme_own.join", "[acme_own]", "which is posixpath.join, is outside acme_own"),
        ("acme_own.VALUE", "[acme_own]", "is not a function"),
        ("acme_own.gone", "[acme_own]", "has no attribute 'gone'"),
        ("pipeline.cli.main", "[acme_own]", "is outside acme_own"),
        ("fine", "[acme_own]", "sampler.function=PACKAGE.fine"),
    ):
        done = gens(*words, f"sampler.function={function}", f"plugins={trusted}", cwd=home)
        assert done.returncode == 2, function
        assert told in done.stderr, function


def test_a_package_that_cannot_be_imported_is_told(home: Path) -> None:
    words = ("sample", "benchmark=jsonl", "benchmark.path=q.jsonl", "sampler=function")
    given = (*words, "sampler.function=acme_two.score", "plugins=[acme_two]")
    done = gens(*given, cwd=home)
    assert "PYTHONPATH=FOLDER gens" in done.stderr
    on_path = {"PYTHONPATH": f"{Path(__file__).parent.parent}:{home}"}
    for code, told in (
        ("import gone_library", "pip install gone_library"),
        ("1 / 0", "ZeroDivisionError"),
        ("(", "Syntax"),
    ):
        (home / "acme_two.py").write_text(code)
        done = gens_apart(*given, cwd=home, **on_path)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
