"""Secrets stay in the environment: what is written names their variables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import gens
from omegaconf import OmegaConf

from pipeline.environment import check_no_secrets, register_environment, written
from pipeline.errors import ConfigError
from pipeline.secrecy import is_secret_name, looks_secret, without_secrets

KEY = "correct-horse-battery-staple"
SERVER = (
    *("benchmark=jsonl", "benchmark.path=q.jsonl", "sampler=uniform", "answerer=openai", "answerer.model=m"),
    *("answerer.base_url=http://127.0.0.1:9/v1", "answerer.api_key_env=null", "answerer.retries=0"),
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    row = {"id": "q", "video": "gone.mp4", "question": "what?", "options": ["a", "b"], "answer": "a"}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def test_settings_are_written_with_names_and_used_with_values(monkeypatch: pytest.MonkeyPatch) -> None:
    register_environment()
    monkeypatch.setenv("A_KEY", KEY)
    monkeypatch.setenv("A_FOLDER", "/data")
    config = OmegaConf.create(
        {
            "paths": {"data": "${oc.env:A_FOLDER,data}"},
            "file": "${paths.data}/q.jsonl",
            "body": {"key": "${oc.env:A_KEY}", "header": "Bearer ${body.key}", "all": ["${oc.env:A_KEY}"]},
            "number": "${oc.decode:${oc.env:NOT_SET,3}}",
            "none": "${oc.env:NOT_SET,null}",
        }
    )
    assert OmegaConf.to_container(OmegaConf.create(written(config))) is not None
    assert "data: /data" in written(config)
    assert "file: /data/q.jsonl" in written(config)
    assert "key: ${oc.env:A_KEY}" in written(config)
    assert "header: Bearer ${oc.env:A_KEY}" in written(config)
    assert "number: 3" in written(config)
    assert KEY not in written(config)
    resolved = OmegaConf.to_container(config, resolve=True)
    assert resolved["body"] == {"key": KEY, "header": f"Bearer {KEY}", "all": [KEY]}  # type: ignore[index,call-overload]
    assert (resolved["number"], resolved["none"]) == (3, None)  # type: ignore[index,call-overload]
    assert without_secrets(f"the server says {KEY} is wrong") == "the server says ${oc.env:A_KEY} is wrong"


def test_no_file_and_no_output_of_a_run_holds_a_value_of_the_environment(home: Path) -> None:
    added = ["+answerer.extra_body.user=${oc.env:MY_KEY}", "+answerer.extra_body.deep.h='Bearer ${oc.env:MY_KEY}'"]
    ran = gens("evaluate", *SERVER, *added, cwd=home, MY_KEY=KEY)
    run = json.loads(next(home.glob("runs/evaluate-*/run.json")).read_text())
    assert "+answerer.extra_body.user=${oc.env:MY_KEY}" in run["command"]
    swept = gens("evaluate", "-m", *SERVER, *added, "answerer.model=m,n", cwd=home, MY_KEY=KEY)
    shown = gens("evaluate", *SERVER, *added, "--cfg", "job", "--resolve", cwd=home, MY_KEY=KEY)
    wrong = gens("evaluate", *SERVER, *added, "answerer.timeout=${oc.env:MY_KEY}", cwd=home, MY_KEY=KEY)
    assert [done.returncode for done in (ran, swept, shown, wrong)] == [1, 1, 0, 2], ran.stderr
    for done in (ran, swept, shown, wrong):
        assert KEY not in done.stdout + done.stderr
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {"config.yaml", "run.json", "report.html", "answers.jsonl", "sweep.json"} <= {path.name for path in files}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("+answerer.extra_body.api_key=abc", "++answerer.extra_body.api_key='${oc.env:MY_SECRET}'"),
        ("+answerer.extra_body.password=12345678", "++answerer.extra_body.password='${oc.env:MY_SECRET}'"),
        ("+answerer.extra_body.user=sk-abcdefghijklmnop", "++answerer.extra_body.user='${oc.env:MY_SECRET}'"),
        ("+answerer.extra_body.x='Bearer abcdefghij'", "++answerer.extra_body.x='${oc.env:MY_SECRET}'"),
        (f"+answerer.extra_body.x={KEY}", "++answerer.extra_body.x='${oc.env:A_KEY}'"),
        ("+answerer.extra_body.h={Authorization: abc}", "++answerer.extra_body.h.Authorization='${oc.env:MY_SECRET}'"),
        ("+answerer.extra_body.h=[1, 'x-api-key: abcdef']", "++answerer.extra_body.h.1='${oc.env:MY_SECRET}'"),
        ("+answerer.extra_body.u='https://me:abc@host/'", "++answerer.extra_body.u='${oc.env:MY_SECRET}'"),
        ("answerer.api_key_env=hf_abcdefghijklmnopqrst", "answerer.api_key_env=MY_SECRET"),
        ("answerer.base_url=https://me:abcdef@host/v1", "answerer.api_key_env=NAME"),
        ("+answerer.extra_body.api_key=sk-{abcdefghijklmnop", "+answerer.extra_body.api_key='${oc.env:MY_SECRET}'"),
    ],
)
def test_a_secret_in_the_settings_is_refused_unseen_and_unwritten(home: Path, word: str, remedy: str) -> None:
    before = sorted(home.rglob("*"))
    for sweep in ([], ["-m"]):
        done = gens("evaluate", *sweep, *SERVER, word, cwd=home, A_KEY=KEY)
        assert done.returncode == 2, done.stdout
        assert done.stderr.rstrip().endswith(remedy)
        assert word.partition("=")[2].strip("'") not in done.stdout + done.stderr
        assert sorted(home.rglob("*")) == before


def test_the_remedy_for_a_secret_works_when_typed(home: Path) -> None:
    done = gens("evaluate", *SERVER, "++answerer.extra_body.api_key=${oc.env:MY_SECRET}", cwd=home, MY_SECRET=KEY)
    assert done.returncode == 1, done.stderr
    unset = gens("evaluate", *SERVER, "++answerer.extra_body.api_key=${oc.env:MY_SECRET}", cwd=home)
    assert unset.returncode == 2
    assert unset.stderr.endswith("the environment variable MY_SECRET is not set\n  what to do: export MY_SECRET=...\n")


@pytest.mark.parametrize("key", ["api_key", "x.apikey", "a.X-Api-Key", "Authorization", "hf_token", "client_secret"])
def test_names_of_secrets(key: str) -> None:
    assert is_secret_name(key)
    with pytest.raises(ConfigError, match="holds a secret"):
        check_no_secrets(OmegaConf.create({"part": {key: "abc"}}))


@pytest.mark.parametrize(
    "key", ["api_key_env", "max_new_tokens", "tokens_per_frame", "yes_token", "tokenizer", "keyframes", "secretary"]
)
def test_names_that_hold_no_secret(key: str) -> None:
    assert not is_secret_name(key)


@pytest.mark.parametrize(
    "text",
    ["sk-proj", "a task-oriented question", "https://host/v1", "max 3:4 @ noon", "Bearer of news", "Qwen2-VL-7B"],
)
def test_texts_that_are_no_secret(text: str) -> None:
    assert not looks_secret(text)
    assert without_secrets(text) == text
