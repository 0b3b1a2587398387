"""The model ``gens`` of lmms-eval. What needs lmms-eval itself runs in its own environment, GENS_LMMS_EVAL."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import choice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.random import choice as pick
from small_server import Scorer, Speaker, engine_over, served
from videomme_task import rows, samples_in, write_task

from pipeline import load_runs
from pipeline.benchmarks.micro import MicroBenchmark
from pipeline.domain import Question

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "scripts" / "lmms_eval_plugin"
sys.path.insert(0, str(PLUGIN))

from gens_lmms_eval import server as plugin  # noqa: E402
from gens_lmms_eval.tasks import draws, harm_of, in_turn, span_in  # noqa: E402


def _guess(options: str) -> str:
    return random.choice(options)


def _read(doc: Any, results: Any) -> Any:
    return results[0] or _guess("ABCD")


def _generator(doc: Any, results: Any) -> Any:
    return np.random.default_rng(0).choice(["A", "B"])


def _chosen(doc: Any, results: Any) -> Any:
    return [choice(each) for each in results]


_made = random.Random(0)


def _of_own_generator(doc: Any, results: Any) -> Any:
    return _made.choice(results)


def _of_numpy(doc: Any, results: Any) -> Any:
    return pick("ABCD")


def _honest(doc: Any, results: Any) -> Any:
    # not: random.choice("ABCD")
    return {"random": np.mean([each == doc for each in results])}


def _inside(doc: Any, results: Any) -> Any:
    return sorted(results, key=lambda _: random.random())


@pytest.mark.parametrize(
    "rule", [_guess, _read, _generator, _chosen, _inside, _of_own_generator, _of_numpy, partial(_read, None)]
)
def test_a_rule_that_draws_is_recognised(rule: Callable[..., Any]) -> None:
    assert draws(rule)
    assert "random" in harm_of("any", SimpleNamespace(config=SimpleNamespace(process_results=rule)))


def test_a_rule_that_reads_is_not_taken_for_one_that_draws() -> None:
    assert not draws(_honest)
    task = SimpleNamespace(config=SimpleNamespace(process_results=_honest))
    assert harm_of("videomme", task) == ""
    assert "for right" in harm_of("mmvu_val", task)


def test_a_task_that_is_a_class_is_looked_into() -> None:
    class Task:
        config = SimpleNamespace(process_results=None)

        def process_results(self, doc: Any, results: Any) -> Any:
            return _read(doc, results)

    assert "random" in harm_of("any", Task())


def test_questions_go_video_by_video() -> None:
    assert in_turn(["b", "a", "b", "c", "a"]) == [0, 2, 1, 4, 3]
    assert in_turn([]) == []


def test_the_plug_in_asks_about_the_part_that_a_document_names() -> None:
    def messages(start: float | None, end: float | None) -> Any:
        video = SimpleNamespace(type="video", start_time=start, end_time=end)
        parts = [video, SimpleNamespace(type="text")]
        return SimpleNamespace(messages=[SimpleNamespace(content=parts)])

    assert span_in(messages(None, None), "q") is None
    assert span_in(messages(0.0, 30), "q") == [0.0, 30.0]
    assert span_in(messages(None, 30), "q") == [0.0, 30.0]
    with pytest.raises(ValueError, match=r"q is about its video from second 5\.0 on"):
        span_in(messages(5.0, None), "q")


def test_the_server_may_read_the_folders_of_the_videos_alone() -> None:
    videos = ["/data/a/1.mp4", "/data/a/deep/2.mp4", "/data/b/3.mp4", "/data/a/4.mp4", "/data/ab/5.mp4"]
    assert plugin.folders_of(videos) == ["/data/a", "/data/ab", "/data/b"]
    assert plugin.folders_of(["/data/a/6.mp4"], ["/data/a", "/data/b"]) == ["/data/a", "/data/b"]
    assert plugin.folders_of(["/data/7.mp4"], ["/data/a", "/data/b"]) == ["/data"]


def test_settings_that_lmms_eval_has_parsed_are_words_again() -> None:
    settings = {"selection.budget": 32, "answerer.x": True, "sampler": "gens_3b", "subtitles": None, "y": 0.5, "z": 1}
    words = ["selection.budget=32", "answerer.x=true", "sampler=gens_3b", "subtitles=null", "y=0.5", "z=1"]
    assert plugin.words_of(settings) == words


def test_an_executable_that_is_not_there_is_named() -> None:
    with pytest.raises(plugin.ServerError, match="gens=/path/to"):
        plugin.command_of("/nowhere/gens", None)
    assert plugin.command_of(None, sys.executable) == [sys.executable, "-m", "pipeline"]


def test_a_server_that_runs_is_taken_if_it_is_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with engine_over(Scorer(), Speaker(lambda _: "")) as engine, served(engine, tmp_path) as address:
        found = plugin.found(address, "none", {"sampler": "scorer"})
        assert (found.model, found.parts["answerer"]) == ("gens", "speaker")
        found.client.close()
        with pytest.raises(plugin.ServerError, match="sampler=scorer, and sampler=gens_3b was asked for"):
            plugin.found(address, "none", {"sampler": "gens_3b"})
    with pytest.raises(plugin.ServerError, match="nobody listens"):
        plugin.found(address, "none", {})


def test_a_server_is_started_asked_without_a_proxy_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small program stands for ``gens``: it says what it is, and writes down how it was called and that it ended."""
    program = tmp_path / "gens.py"
    program.write_text(SMALL_GENS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started = plugin.Started([sys.executable, str(program)], {"selection.budget": 4}, ["/data/a b"])
    try:
        assert (started.model, started.parts) == ("gens", {"sampler": "small"})
        words = json.loads((tmp_path / "words").read_text())
        assert words[:2] == ["serve", "selection.budget=4"]
        assert words[3:] == ['videos.folders=["/data/a b"]', "PYTHONPATH=None"]
    finally:
        started.stop()
        started.client.close()
    assert (tmp_path / "ended").exists()


def test_a_server_that_ends_at_once_is_told(tmp_path: Path) -> None:
    with pytest.raises(plugin.ServerError, match="ended with code 2"):
        plugin.Started([sys.executable, "-c", "raise SystemExit(2)"], {}, [])


SMALL_GENS = """
import http.server, json, os, pathlib, signal, sys

pathlib.Path("words").write_text(json.dumps([*sys.argv[1:], f"PYTHONPATH={os.environ.get('PYTHONPATH')}"]))

class Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        about = {"id": "gens", "object": "model", "created": 0, "owned_by": "", "gens": {"sampler": "small"}}
        body = json.dumps({"object": "list", "data": [about]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

def end(*_):
    pathlib.Path("ended").touch()
    os._exit(0)

signal.signal(signal.SIGTERM, end)
port = next(int(word.partition("=")[2]) for word in sys.argv if word.startswith("access.port="))
http.server.HTTPServer(("127.0.0.1", port), Models).serve_forever()
"""


# --------------------------------------------------------------------------------------------------- lmms-eval itself


@pytest.fixture
def installed(harness: str, tmp_path: Path) -> Path:
    """A folder with the plug-in for the path of a Python."""
    folder = tmp_path / "plugin"
    install = [harness, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(PLUGIN)]
    subprocess.run(install, check=True)
    return folder


@pytest.fixture
def docs(tmp_path: Path) -> list[dict[str, Any]]:
    """Questions about two videos in turns, and a last one about a file that is no video."""
    made = list(MicroBenchmark("micro", str(tmp_path / "videos"), "test", 0, 2, 3.0, 5.0, 5).questions())
    by_video: dict[str, list[Question]] = {}
    for question in made:
        by_video.setdefault(question.video, []).append(question)
    turns = [question for pair in zip(*by_video.values(), strict=True) for question in pair][:6]
    broken = tmp_path / "videos" / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(2000))
    return rows([*turns, turns[0]], [*(Path(question.video) for question in turns), broken])


def settings_of(tmp_path: Path) -> str:
    """The model of lmms-eval with this checkout as what it runs."""
    script = tmp_path / "gens"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m pipeline "$@"\n')
    script.chmod(0o755)
    settings = {"sampler": "gens_micro", "answerer": "qwen2_vl_micro", "selection.budget": 4}
    return ",".join([f"gens={script}", *(f"{key}={value}" for key, value in settings.items())])


def lmms_eval(harness: str, plugin: Path, folder: Path, task: str, *words: str) -> str:
    """What a run printed."""
    command = [harness, "-m", "lmms_eval", "--model", "gens", "--model_args", settings_of(folder)]
    command += ["--include_path", str(folder / "task"), "--tasks", task, "--batch_size", "1", *words]
    command += ["--log_samples", "--output_path", str(folder / "out")]
    own = {"PYTHONPATH": str(plugin), "HF_HOME": str(folder / "hf"), "GENS_CACHE": str(folder / "cache")}
    around = {**os.environ, **own, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_plug_in_keeps_a_run_and_a_failed_question_counts_as_wrong(
    harness: str, installed: Path, docs: list[dict[str, Any]], tmp_path: Path
) -> None:
    log = lmms_eval(harness, installed, tmp_path, write_task(docs, tmp_path / "task"))
    samples = samples_in(tmp_path / "out")
    assert len(samples) == len(docs), log
    said = [sample["filtered_resps"] for sample in samples]
    scores = [sample["videomme_perception_score"] for sample in samples]
    assert said[-1] == scores[-1]["pred_answer"] == ""
    assert scores[-1]["score"] == 0
    assert "1 of 7 questions failed (1 unreadable_video)" in log
    (folder,) = (tmp_path / "runs").iterdir()
    run = load_runs(folder).set_index("id")
    numbers = [int(id.split("/")[2]) for id in run.index]
    assert sorted(numbers) == list(range(7))
    assert all(id.startswith("made_videomme_process_results/test/") for id in run.index)
    texts = dict(zip(numbers, run["text"], strict=True))
    assert [texts[number] for number in range(6)] == said[:6]
    # Guesses are 1 or 2; the micro model does not know the words of Video-MME's prompt.
    assert sum(score["score"] for score in scores) >= 3


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_task_that_would_draw_an_answer_ends_the_run(
    harness: str, installed: Path, docs: list[dict[str, Any]], tmp_path: Path
) -> None:
    task = write_task(docs[-2:], tmp_path / "task", "drawing")
    log = lmms_eval(harness, installed, tmp_path, task)
    assert samples_in(tmp_path / "out") == []
    assert "made_drawing draws an option at random where it reads none" in log
    # Without the question that fails nothing would be drawn.
    log = lmms_eval(harness, installed, tmp_path, task, "--limit", "1")
    assert len(samples_in(tmp_path / "out")) == 1, log


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_server_that_answers_nothing_ends_the_run_and_one_error_does_not(harness: str, installed: Path) -> None:
    code = """
from gens_lmms_eval.model import ServerError, TokenCounts, _Answered, _check_hope
ok, bad = (_Answered("", TokenCounts(), status, "no model", "") for status in ("ok", "error"))
for answered, of_all in ([bad] * 2, 3), ([bad] * 3, 3), ([bad, ok, bad], 3), ([bad] * 16, 99), ([bad] * 16 + [ok], 99):
    try:
        _check_hope(answered, of_all)
        print("goes on")
    except ServerError as error:
        print(error)
"""
    around = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([harness, "-c", code], env=around, capture_output=True, text=True, check=False)
    ends = "no question can be answered: no model"
    assert done.stdout.splitlines()[-5:] == ["goes on", ends, "goes on", ends, "goes on"], done.stderr


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_requirements_of_lmms_eval_stay_fulfilled(harness: str, installed: Path) -> None:
    check = [harness, "-m", "pip", "check"]
    with_it = subprocess.run(check, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, check=False)
    assert with_it.stdout == subprocess.run(check, capture_output=True, check=False).stdout
