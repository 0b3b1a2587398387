"""``gens joint`` over runs that are written here and not computed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import gens

from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.rows import AnswerRow, to_line
from pipeline.benchmarks.joint import joint_figures
from pipeline.domain import Answer, AnswerForm, Question, Span, Status

CHOICES = ("grey", "white", "red", "blue", "green")
ASKED = [Question(str(number), f"v{number}.mp4", f"Which lid is {number}?", CHOICES, 1) for number in range(4)]
WHEN = [replace(each, correct=None, evidence=(Span(10, 20),), answer_form=AnswerForm.INTERVALS) for each in ASKED]


def write_run(folder: Path, asked: list[Question], answers: Mapping[str, Answer]) -> None:
    folder.mkdir(parents=True)
    write_questions(asked, folder)
    (folder / "config.yaml").write_text("benchmark: {name: cgbench}\n")
    rows = [AnswerRow("key", "uniform", "qwen", each, answers[each.id]) for each in asked if each.id in answers]
    (folder / "answers.jsonl").write_bytes(b"".join(map(to_line, rows)))


def option(id: str, text: str, read: int | None) -> Answer:
    return Answer(id, text, read, Status.UNPARSED if read is None else Status.OK)


def when(id: str, start: float, end: float) -> Answer:
    return Answer(id, f"{start:g} to {end:g}", intervals=(Span(start, end),))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    long = {
        "0": option("0", "B", 1),
        "1": option("1", "B", 1),
        "2": option("2", "C", 2),
        "3": option("3", "white?", None),
    }
    clue = {id: option(id, "B", 1) for id in "0123"}
    write_run(tmp_path / "long", ASKED, long)
    write_run(tmp_path / "clue", ASKED, clue)
    # IoUs of 1, .5 and .2; the last question has no answer.
    write_run(tmp_path / "when", WHEN, {"0": when("0", 10, 20), "1": when("1", 15, 20), "2": when("2", 10, 12)})
    return tmp_path


def test_the_figures_of_three_runs(home: Path) -> None:
    done = gens("joint", "long=long", "clue=clue", "intervals=when", "target=out", cwd=home)
    assert done.returncode == 0, done.stderr
    for words in ("long-acc", "CRR", "acc@IoU (>)", "CG-Bench", "intervals is unfinished: 1 without an answer"):
        assert words in done.stdout
    found = json.loads((home / "out" / "joint.json").read_text())["figures"]
    strict, theirs = found["strict"], found["CG-Bench"]
    assert (strict["long_acc"], strict["clue_acc"], strict["crr"]) == (0.5, 1.0, 0.5)
    assert strict["miou"] == pytest.approx(1.7 / 4)
    # At .1 and .2 three of four, at .3, .4 and .5 two; above .2 two, and above .5 one.
    assert strict["rec_at_iou"] == pytest.approx((3 + 3 + 2 + 2 + 2) / 20)
    assert strict["rec_above_iou"] == pytest.approx((3 + 2 + 2 + 2 + 1) / 20)
    assert strict["acc_at_iou"] == pytest.approx(2 * 5 / 20)
    assert strict["acc_above_iou"] == pytest.approx((2 * 4 + 1) / 20)
    # What has no letter and no row is left out: 2 of 3 right, and both answers of three questions.
    assert (theirs["long_acc"], theirs["both"]) == (pytest.approx(2 / 3), 3)
    assert theirs["miou"] == pytest.approx(1.7 / 3)
    assert theirs["acc_above_iou"] == pytest.approx((2 * 4 + 1) / 15)


def test_two_runs_have_the_figures_of_two(home: Path) -> None:
    done = gens("joint", "long=long", "clue=clue", "target=out", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "CRR" in done.stdout
    assert "mIoU" not in done.stdout
    assert joint_figures({"a": 1.0}, {"a": 0.0}, None).crr is None


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (["long=long"], "one run alone", "clue=runs/..."),
        (["long=long", "clue=none"], "none holds no answers", "clue=runs/evaluate-..."),
        (["long=long", "intervals=clue"], "are not answered with intervals", "benchmark.task=intervals"),
        (["long=when", "clue=clue"], "are not answered with options", "benchmark.task=choice"),
        (["long=long", "clue=part"], "clue asks 1 questions, and long 4, which are not the same", "same limit"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(home: Path, words: list[str], problem: str, remedy: str) -> None:
    write_run(home / "part", ASKED[:1], {"0": option("0", "B", 1)})
    (home / "none").mkdir()
    done = gens("joint", *words, "target=out", cwd=home)
    assert done.returncode == 2, done.stdout
    assert problem in done.stderr
    assert remedy in done.stderr
