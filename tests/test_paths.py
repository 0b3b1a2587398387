"""Paths as people and file systems write them, there and back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import gens
from made import write_video
from rows_on_disk import rows_of

from pipeline.artefacts.rows import AnswerRow
from pipeline.errors import CheckpointError, ConfigError, InputError
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.paths import local_path, nearest_path, path_text
from pipeline.wellformed import is_well_formed, well_formed, well_formed_json

NOT_UTF8 = os.fsdecode(b"caf\xe9.mp4")
NAMES = ("~draft.mp4", "~root", "a:b.mp4", "100% %d.mp4", "two\nlines.mp4", "trailing .mp4 ", "-x.mp4", "file:a.mp4")


@pytest.mark.parametrize("name", [*NAMES, NOT_UTF8, "caf\xe9.mp4"])
def test_every_name_comes_back_from_its_text(name: str, tmp_path: Path) -> None:
    text = path_text(tmp_path / name)
    assert text.encode()
    assert local_path(text) == tmp_path / name
    assert local_path(path_text(name)).absolute() == Path(name).absolute()


def test_only_a_tilde_alone_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert local_path("~") == Path("/home/me")
    assert local_path("~/a.mp4") == Path("/home/me/a.mp4")
    assert local_path("~root/a.mp4") == Path("~root/a.mp4")
    assert local_path("/a/~/b.mp4") == Path("/a/~/b.mp4")


def test_a_name_that_is_not_utf8_is_a_uri() -> None:
    assert path_text(f"/v/{NOT_UTF8}") == "file:///v/caf%E9.mp4"
    assert os.fsencode(local_path("file:///v/a%20b%25%E9.mp4")) == b"/v/a b%\xe9.mp4"
    assert local_path("file:///~/a.mp4") == Path("/~/a.mp4")


def test_what_is_no_path_is_refused() -> None:
    for text in ("a\0.mp4", "file:///a%00.mp4"):
        with pytest.raises(InputError, match=r"a\\x00\.mp4' is not the path of a file"):
            local_path(text)
    for value in (True, 1.5, ["a", "b"]):
        with pytest.raises(ConfigError, match="is not a path"):
            local_path(value)  # type: ignore[arg-type]  # as Hydra reads video=[a,b]
    assert local_path(2024) == Path("2024")
    assert path_text("half \ud83d.mp4") == "half \ufffd.mp4"


def test_halves_of_surrogate_pairs_are_replaced() -> None:
    assert well_formed("a\ud83d") == "a\ufffd"
    assert well_formed("\U0001f600\xe9") == "\U0001f600\xe9"
    assert not is_well_formed("\udce9")
    assert well_formed_json({"\ud83d": ["\ude00", 1, None, {"a": "b"}]}) == {"\ufffd": ["\ufffd", 1, None, {"a": "b"}]}


def test_every_name_can_be_asked_about_in_a_file_of_questions(tmp_path: Path) -> None:
    names = [*(name for name in NAMES if name.rstrip().endswith(".mp4")), NOT_UTF8]
    write_video(tmp_path / "clip.mp4")
    for name in names:
        shutil.copy(tmp_path / "clip.mp4", tmp_path / name)
    rows = [{"video": name, "question": "What is it?"} for name in names]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("benchmark=jsonl", "benchmark.path=q.jsonl", "sampler=uniform", "selection.budget=2")
    done = gens("sample", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [file] = tmp_path.glob("runs/*/selections.jsonl")
    selected = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [local_path(row["question"]["video"]) for row in selected] == [tmp_path / name for name in names]
    assert [len(row["selection"]["frames"]) for row in selected] == [2] * len(names)


@pytest.mark.parametrize("name", [NOT_UTF8, "~draft.mp4"])
def test_every_name_can_be_asked_about_on_the_command_line(name: str, tmp_path: Path) -> None:
    write_video(tmp_path / name)
    words = (f"video={name}", "question=Wh\udce9t?", "sampler=uniform", "answerer=qwen2_vl_micro")
    asked = gens("ask", *words, cwd=tmp_path)
    assert asked.returncode == 0, asked.stderr
    [file] = tmp_path.glob("runs/*/answers.jsonl")
    [row] = rows_of(AnswerRow, file)
    assert row.question.text == "Wh\ufffdt?"
    assert (tmp_path / local_path(row.question.video)) == tmp_path / name
    assert (file.parent / "report.html").is_file()


def test_a_tilde_that_the_shell_left_alone_is_the_home_folder(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4")
    home = tmp_path / "home"
    (home / "mine" / "selection").mkdir(parents=True)
    (home / "q.jsonl").write_text(json.dumps({"video": str(tmp_path / "clip.mp4"), "question": "what?"}) + "\n")
    sample = ("sample", "--config-dir=~/mine", "benchmark=jsonl", "benchmark.path=~/q.jsonl", "sampler=uniform")
    for words, cache, folder in (
        (("paths.runs=~/runs", "paths.cache=~/cache"), "elsewhere", "runs"),
        (("hydra.run.dir=~/one",), "~/cache", "one"),
        (("-m", "paths.runs=~/swept", "selection.budget=1,2"), "~/cache", "swept"),
    ):
        done = gens(*sample, *words, cwd=tmp_path, HOME=str(home), GENS_CACHE=cache)
        assert done.returncode == 0, done.stderr
        assert list((home / folder).rglob("selections.jsonl"))
    assert (home / "cache").is_dir()
    assert not list(tmp_path.glob("~*"))


def test_a_path_that_does_not_exist_is_like_one_that_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "qwen").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for typed in ("modles/qwen", "models/qwenn", str(tmp_path / "model" / "qwen")):
        assert nearest_path(Path(typed)) == Path("models/qwen")
    assert nearest_path(Path("models/xyz")) is None
    assert nearest_path(Path("elsewhere/qwen")) is None
    with pytest.raises(CheckpointError, match="There is no checkpoint folder") as error:
        _ = Checkpoint("./models/qwem", None, "auto", "auto", "cpu").folder
    assert "answerer.checkpoint.source=models/qwen " in error.value.remedy
