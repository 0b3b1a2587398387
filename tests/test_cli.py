"""The command line as a user meets it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_line import gens, gens_apart

from pipeline.checks.devices import Gpu, Machine
from pipeline.cli import VERBS
from pipeline.commands.list import Place, place


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (["evalute"], "Did you mean 'evaluate'", "one of demo, ask"),
        (["evaluate", "sampler=unifrom"], "sampler=unifrom: no such option. Did you mean 'uniform'", "sampler=uniform"),
        (["evaluate", "sampler.wndow.frames=3"], "sampler.wndow.frames is not a key", "sampler"),
        (["evaluate", "selection.bugdet=3"], "Did you mean 'selection.budget'", "selection.ties"),
        (["evaluate", "smapler=uniform"], "Did you mean 'sampler'", "benchmark"),
        (["evaluate", "selection.budget=0"], "budget", "selection.budget="),
        (["evaluate", "selection.budget=few"], "selection.budget='few'", "selection.budget=8"),
        (["evaluate", "selection.ties=latest"], "'earliest' or 'spread'", "selection.ties=earliest"),
        (["evaluate", "limit=0"], "limit=0", "limit=1"),
        (["evaluate", "limit=1.5"], "limit=1.5", "limit=1"),
        (["evaluate", "limit=few"], "limit=few", "limit=null"),
        (["answer", "selections=nowhere.jsonl", "limit=-1"], "limit=-1", "limit=1"),
        (
            ["evaluate", "answerer/prompt=leter"],
            "answerer/prompt=leter: no such option. Did you mean 'letter'",
            "letter or",
        ),
        (["evaluate", "sampler=3"], "sampler=3: not the name of an option", "gens list"),
        (["evaluate", "answerer=null"], "answerer=null: not the name of an option", "gens list"),
        (["evaluate", "~answerer"], "answerer is missing", "gens evaluate answerer="),
        (["evaluate", "answerer=openai"], "answerer.base_url is missing", "answerer.base_url="),
        (["evaluate", "sampler=uniform,gens_micro"], "Ambiguous value", "-m"),
        (["evaluate", "qwen2_vl_7b"], "qwen2_vl_7b is not a setting", "KEY=VALUE"),
        (["evaluate", "answerer.x=a {b}: c"], "answerer.x=a {b}: c", "answerer.x='a {b}: c'"),
        (["evaluate", "--config-dri", "mine"], "--config-dri: no such option. Did you mean '--config-dir'", "--cfg"),
        (["evaluate", "--config-dir", "nowhere"], "--config-dir nowhere: there is no such folder", "--config-dir"),
        (["evaluate", "over_limit=cut"], "over_limit=cut", "over_limit=keep_best"),
        (["evaluate", "subtitles=yes"], "subtitles=yes", "subtitles=at_frames"),
        (["evaluate", "-m", "--cfg", "job"], "Only one of", "--cfg job"),
        (["ask", "question=what", "video=x.mp4", "options=yes"], "options=yes is not a list", "[one, another]"),
        (["evaluate", "execution.answer_batch=0"], "execution.answer_batch=0", "execution.answer_batch=1"),
        (["evaluate", "sampler=uniform", "sampler._target_=os.system"], "os is a part of Python", "sampler=..."),
        (["evaluate", "sampler=uniform", "sampler._target_=mine.Sampler"], "outside pipeline", "plugins=[mine]"),
        (["ask", "video=x.mp4"], "question is missing", "question="),
        (["ask", "question=what", "video=x.mp4", "answer=z", "options=[a,b]"], "'z'", "A to B: answer=A\n"),
        (["answer", "selections=nowhere.jsonl"], "nowhere.jsonl: no such file", "gens sample"),
        (["evaluate", "a key=1"], "a key=1: the part before = is not a key", "gens evaluate --help"),
        (["evaluate", "=1"], "=1: the part before = is not a key", "gens evaluate --help"),
        (
            ["evaluate", "sampler=uniform", "sampler.window.frames=3", "selection.bugdet=3"],
            "sampler.window.frames is not a key of sampler=uniform.",
            "valid here: sampler._target_",
        ),
        (["ask", "--video", "clip.mp4"], "--video: a setting", "video=clip.mp4"),
        (["ask", "clip.mp4", "--question=What is it?"], "--question: a setting", '"question=What is it?"'),
        (["ask", "--vidoe", "clip.mp4"], "--vidoe: a setting", "video=clip.mp4"),
        (["evaluate", "--selection.budget", "8"], "--selection.budget: a setting", "selection.budget=8"),
        (["ask", "clip.mp4", "What", "is", "it?"], "it?: a word after", "gens ask clip.mp4 'What is it?'"),
        (
            ["ask", "clip.mp4", "what?", "answerer=Qwen/Qwen2-VL-7B-Instruct"],
            "not a checkpoint",
            "answerer=qwen2_vl_7b",
        ),
        (["evaluate", "answerer=Mine/VL"], "not a", "answerer=transformers answerer.checkpoint.source=Mine/VL"),
        (["evaluate", "answerer=qwen2_vl_8b"], "no such option", "answerer=qwen2_vl_7b"),
        (["report", "runs=nowhere"], "nowhere", "run folder"),
        (["list", "sampler"], "Did you mean 'samplers'", "policies"),
    ],
)
def test_a_wrong_word_names_the_right_one(tmp_path: Path, words: list[str], problem: str, remedy: str) -> None:
    done = gens(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    first, _, second = done.stderr.partition("what to do:")
    assert problem in first
    assert remedy in second
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shown", [[], ["--cfg", "job"]])
def test_a_wrong_key_of_an_option_of_ones_own_names_that_option(tmp_path: Path, shown: list[str]) -> None:
    own = tmp_path / "mine" / "selection" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: mine.Own\nmost: 3\n", encoding="utf-8")
    done = gens("evaluate", "--config-dir", "mine", "selection=own", "selection.budget=3", *shown, cwd=tmp_path)
    assert "selection.budget is not a key of selection=own." in done.stderr
    assert "selection.most" in done.stderr


def spent_by_children() -> float:
    """Seconds of work, not of waiting: what else the machine does is not what is asked."""
    times = os.times()
    return times.children_user + times.children_system


def test_list_says_what_everything_is_without_torch_and_at_once(tmp_path: Path) -> None:
    probe = (
        "import sys; from pipeline.cli import main; sys.argv = ['gens', 'list']; code = main();"
        "sys.argv = ['gens', 'list', 'answerers']; code = code or main();"
        "heavy = {'torch', 'transformers', 'av', 'decord'} & set(sys.modules); sys.exit(code or len(heavy))"
    )
    began = spent_by_children()
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False)
    spent = spent_by_children() - began
    assert done.returncode == 0, done.stderr
    for word in ("gens_3b", "uniform", "qwen2_vl_7b", "topk", "micro", "Qwen/Qwen2-VL-7B-Instruct"):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert spent < 2.0  # half a second on an idle core; torch alone takes more


def test_list_fits_a_screen_and_says_what_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Machine((Gpu(0, "H100", 80 * 10**9, 80 * 10**9),), 10**12)
    for machine in (large, Machine((), 16 * 10**9)):
        monkeypatch.setattr("pipeline.commands.list.this_machine", lambda machine=machine: machine)
        lines = gens("list", cwd=tmp_path).stdout.splitlines()
        assert len(lines) <= 26
        assert max(map(len, lines)) <= 80
    abouts = {
        "a": ("20 GB on the GPU", Place.HERE, Place.TOO_LARGE),
        "b": ("4 GB on the GPU, or 6 GB on a CPU", Place.HERE, Place.SLOWLY),
        "c": ("160 GB over several GPUs", Place.TOO_LARGE, Place.TOO_LARGE),
        "d": ("0.5 GB", Place.HERE, Place.HERE),
        "e": ("none here", Place.HERE, Place.HERE),
    }
    for memory, on_gpu, on_cpu in abouts.values():
        assert place({"memory": memory, "extra": "none"}, large) is on_gpu
        assert place({"memory": memory, "extra": "none"}, Machine((), 16 * 10**9)) is on_cpu
    listed = gens("list", "answerers", cwd=tmp_path).stdout
    line = next(line for line in listed.splitlines() if "Qwen/Qwen2-VL-7B-Instruct" in line)
    assert line.endswith("memory: 20 GB on the GPU, too large for this machine")


def test_cfg_shows_the_composed_job(tmp_path: Path) -> None:
    done = gens_apart("evaluate", "selection.budget=4", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "budget: 4" in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_a_verb_does_and_every_key_of_its_own(tmp_path: Path, verb: str) -> None:
    done = gens(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert VERBS[verb] in done.stdout
    assert f"\n  gens {verb}" in done.stdout
    assert not re.search(r"_target_|\$\{|\n\n\n", done.stdout)  # neither Hydra's own lines nor a list of nothing
    composed = gens(verb, "--cfg", "job", cwd=tmp_path)
    groups = ("reader", "execution", "speed", "samplers", "answerers")
    for key in yaml.safe_load(composed.stdout):
        assert key in groups or re.search(rf"^  {key}[:=]", done.stdout, re.MULTILINE), key


@pytest.mark.parametrize("options", ["yellow, dark red,it's 2 = x", "['yellow', \"dark red\", it's 2 = x]"])
def test_ask_takes_video_question_and_options_without_their_keys(tmp_path: Path, options: str) -> None:
    (tmp_path / "mine").mkdir()
    words = ("--config-dir", "mine", "my clip, 2.mp4", "sampler=uniform", "What {is} it, then?", options)
    done = gens("ask", *words, "--cfg", "job", cwd=tmp_path)
    composed = yaml.safe_load(done.stdout)
    assert [composed[key] for key in ("video", "question")] == ["my clip, 2.mp4", "What {is} it, then?"], done.stderr
    assert composed["options"] == ["yellow", "dark red", "it's 2 = x"]


def test_options_and_overrides_may_stand_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = gens("evaluate", "limit=3", "--config-dir", "mine", "selection.budget=4", "--cfg", "job", cwd=tmp_path)
    composed = yaml.safe_load(done.stdout)
    assert (composed["limit"], composed["selection"]["budget"]) == (3, 4), done.stderr


@pytest.mark.parametrize(
    "question",
    [
        "what, then?",
        "it's 5 o'clock: who {a, b} [x] comes?",
        'he says "stop" or ${oc.env:HOME} or $HOME = 1?',
        "a \\ b \\' c \\",
        "null",
        "true",
        "12",
        "ünïcode (と) ~ % @ + # ; & *",
    ],
)
def test_a_question_may_be_anything_that_people_type(tmp_path: Path, question: str) -> None:
    done = gens(
        "ask", f"question={question}", "video=My clip (1), final.mp4", "--cfg", "job", "--resolve", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    composed = yaml.safe_load(done.stdout)
    assert composed["question"] == question
    assert composed["video"] == "My clip (1), final.mp4"


def test_a_user_adds_an_option_by_one_yaml_file(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "sampler"
    folder.mkdir(parents=True)
    (folder / "halfway.yaml").write_text(
        "_target_: pipeline.samplers.uniform.UniformSampler\nname: halfway\nspread: midpoint\nabout: {what: mine}\n"
    )
    listed = gens("list", "what=samplers", "--config-dir", "mine", cwd=tmp_path)
    assert "halfway" in listed.stdout, listed.stderr
    composed = gens("evaluate", "--config-dir", "mine", "sampler=halfway", "--cfg", "job", cwd=tmp_path)
    assert "name: halfway" in composed.stdout, composed.stderr
    wrong = gens("evaluate", "--config-dir", "mine", "sampler=halfwya", cwd=tmp_path)
    assert "Did you mean 'halfway'" in wrong.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gens ", "evaluate"),
        ("gens evaluate sampler=", "sampler=gens_micro"),
        ("gens ask ans", "answerer="),
        ("gens ask ans", "answerer."),
        ("gens evaluate answerer/", "answerer/prompt="),
        ("gens evaluate answerer/prompt=mlvu", "answerer/prompt=mlvu_official"),
        ("gens evaluate ~ans", "~answerer"),
        ("gens  evaluate sampler=cl", "sampler=clip"),
        ("gens evaluate selection.bud", "selection.budget="),
    ],
)
def test_the_shell_completes_verbs_groups_and_keys(tmp_path: Path, line: str, expected: str) -> None:
    done = gens("-sc", "query=bash", cwd=tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert expected in done.stdout.split(), done.stdout + done.stderr


def test_the_completion_script_is_for_gens(tmp_path: Path) -> None:
    installed = Path(sys.executable).parent / "gens"
    done = subprocess.run([installed, "-sc", "install=bash"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("hydra_bash_completion gens")


@pytest.mark.parametrize("words", [["list"], ["evaluate", "--cfg", "job"], ["check", "--help"]])
def test_a_pipe_may_be_closed_early(tmp_path: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pipeline", *words]
    done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode in (1, 141)
