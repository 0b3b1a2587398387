"""A key that one option of a group has and another lacks: named in a sweep, and set for that option alone."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from command_line import gens

WORDS = ("sample", "benchmark=jsonl", "benchmark.path=q.jsonl")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    row = {"id": "q", "video": "gone.mp4", "question": "what?", "options": ["a", "b"], "answer": "a"}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def jobs(home: Path) -> list[tuple[dict[str, str], str]]:
    """Swept values and status of each job of the only sweep."""
    (path,) = home.glob("runs/sweep-*/sweep.json")
    return [
        (dict(word.split("=", 1) for word in job["overrides"] if word.startswith("sampler")), job["status"])
        for job in json.loads(path.read_text())["jobs"]
    ]


def test_the_job_that_lacks_a_key_is_named_and_stops_no_other(home: Path) -> None:
    done = gens(*WORDS, "-m", "sampler=uniform,gens_micro", "sampler.fps=2", cwd=home)
    assert done.returncode == 2
    problem, _, remedy = done.stderr.partition("  what to do: ")
    assert problem.startswith("error: this job cannot run, the others continue: sampler=uniform\n")
    assert "sampler.fps is not a key of sampler=uniform" in problem
    assert "Did you mean" not in problem
    assert jobs(home) == [
        ({"sampler": "uniform", "sampler.fps": "2"}, "failed"),
        ({"sampler": "gens_micro", "sampler.fps": "2"}, "done"),
    ]
    # What it says to type, typed.
    typed = re.match(r"set it for the choice that has it: (.+) in place of (.+)\n", remedy)
    assert typed is not None
    assert shlex.split(typed[2]) == ["sampler.fps=2"]
    mended = gens(*WORDS, "-m", "sampler=uniform,gens_micro", *shlex.split(typed[1]), cwd=home, GENS_CACHE="other")
    assert mended.returncode == 1, mended.stderr
    assert "what to do: set it" not in mended.stderr


def test_a_key_that_only_the_default_option_lacks_stops_no_job(home: Path) -> None:
    done = gens(*WORDS, "-m", "sampler=uniform,oracle", "sampler.spread=interior", cwd=home)
    assert "sampler.spread is not a key of sampler=oracle." in done.stderr
    assert "sampler/uniform.spread=interior in place of sampler.spread=interior" in done.stderr
    assert [status for _, status in jobs(home)] == ["done", "failed"]


def test_jobs_that_each_lack_a_key_of_the_other_are_all_named(home: Path) -> None:
    done = gens(*WORDS, "-m", "sampler=uniform,gens_micro", "sampler.fps=2", "sampler.spread=interior", cwd=home)
    assert done.returncode == 2
    assert "cannot run: sampler=uniform\n" in done.stderr
    assert "sampler/gens_micro.fps=2 in place of sampler.fps=2" in done.stderr
    assert "cannot run: sampler=gens_micro\n" in done.stderr
    assert "sampler/uniform.spread=interior in place of sampler.spread=interior" in done.stderr


def test_a_key_of_one_choice_is_swept_over_for_it_alone(home: Path) -> None:
    done = gens(*WORDS, "-m", "sampler=uniform,gens_micro", "sampler/gens_micro.fps=1,2", cwd=home)
    assert done.returncode == 1, done.stderr
    assert jobs(home) == [
        ({"sampler": "uniform"}, "done"),
        ({"sampler": "gens_micro", "sampler.fps": "1"}, "done"),
        ({"sampler": "gens_micro", "sampler.fps": "2"}, "done"),
    ]


def test_an_option_that_does_not_exist_costs_its_own_job(home: Path) -> None:
    done = gens(*WORDS, "-m", "sampler=uniform,unifrom", cwd=home)
    assert done.returncode == 2
    assert "sampler=unifrom: no such option. Did you mean 'uniform'" in done.stderr
    assert [status for _, status in jobs(home)] == ["done", "failed"]


def test_a_sweep_without_a_job_that_can_run_leaves_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    for words in (["sampler=uniform,oracle", "sampler.window=2"], ["sampler=a,b"], ["selection.budget=0,-1"]):
        done = gens(*WORDS, "-m", *words, cwd=home)
        assert done.returncode == 2
        assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sampler=gens_micro", "sampler/gens_micro.fps=2"], {"sampler.fps": 2}),
        (["sampler=gens_micro", "sampler/gens_micro.window.frames=8"], {"sampler.window.frames": 8}),
        (["answerer=openai", "+answerer/openai.extra_body.top_k=1"], {"answerer.extra_body.top_k": 1}),
        (["sampler=hybrid", "sampler/clip.fps=3"], {"sampler.first.fps": 3}),
        (["answerer/prompt/letter.answer_prefix=So"], {"answerer.prompt.answer_prefix": "So"}),
    ],
)
def test_a_word_for_one_choice_follows_it(home: Path, words: list[str], expected: dict[str, object]) -> None:
    chosen = ["answerer/prompt=letter"] if words[0].startswith("answerer/prompt") else []
    done = gens("evaluate", *chosen, *words, "--cfg", "job", cwd=home)
    assert done.returncode == 0, done.stderr
    composed = yaml.safe_load(done.stdout)
    for key, value in expected.items():
        node = composed
        for name in key.split("."):
            node = node[name]
        assert node == value


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (
            ["sampler=uniform", "sampler/gens_micro.fps=2"],
            "is about sampler=gens_micro, which is not chosen",
            "sampler=",
        ),
        (["-m", "sampler=uniform,oracle", "sampler/gens_micro.fps=2"], "which is not chosen", "sampler=gens_micro"),
        (["sampler/gens_mirco.fps=2"], "no option gens_mirco. Did you mean 'gens_micro'", "uniform"),
        (["sampler=gens_micro", "sampler/gens_micro.fsp=2"], "Did you mean 'sampler.fps'", "sampler.window"),
    ],
)
def test_a_word_for_another_choice_is_refused(home: Path, words: list[str], problem: str, remedy: str) -> None:
    done = gens(*WORDS, *words, cwd=home)
    assert done.returncode == 2
    first, _, second = done.stderr.partition("what to do:")
    assert problem in first
    assert remedy in second
    assert not (home / "runs").exists()
