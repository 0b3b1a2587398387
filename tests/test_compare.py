"""``gens compare`` and the exports to lmms-eval as whole commands, over runs that are written here and not computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_line import gens
from made import write_video

from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.rows import AnswerRow, SelectionRow, to_line
from pipeline.domain import Answer, FrameOrigin, Question, SelectedFrame, Selection, option_letter

ASKED = [
    Question(f"q{number}", f"v{number // 2}.mp4", f"What of {number}?", ("red", "blue", "green"), 0, {"task": task})
    for number, task in enumerate(["count"] * 4 + ["order"] * 4)
]
UNIFORM = [0, 0, 1, 1, 1, None, 0, 1]
GENS = [0, 1, 0, 0, 0, 0, 0, 1]
"""Options; the first is right, none is an answer that cannot be read."""


def write_run(folder: Path, sampler: str, options: Sequence[int | None], asked: Sequence[Question] = ASKED) -> Path:
    folder.mkdir(parents=True)
    write_questions(asked, folder)
    rows = [
        AnswerRow(
            "key", sampler, "qwen", each, Answer(each.id, "?" if option is None else option_letter(option), option)
        )
        for each, option in zip(asked, options, strict=False)
    ]
    (folder / "answers.jsonl").write_bytes(b"".join(to_line(row) for row in rows))
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs" / "uniform", "uniform", UNIFORM)
    write_run(tmp_path / "runs" / "gens", "gens", GENS)
    return tmp_path


def test_two_runs_are_set_side_by_side(home: Path) -> None:
    done = gens("compare", "first=runs/uniform", "second=runs/gens", "target=compared", cwd=home)
    assert done.returncode == 0, done.stderr
    for words in ("uniform + qwen", "gens + qwen", "37.5 %", "75.0 %", "+37.5", "order"):
        assert words in done.stdout
    assert "right in the second run alone: 4: q2, q3, q4, q5" in done.stdout
    assert "right in the first run alone: 1: q1" in done.stdout
    found = json.loads((home / "compared" / "comparison.json").read_text())
    assert (found["schema"], found["questions"], found["difference"]) == ("gens/comparison/1", 8, 0.375)
    assert (found["gained"], found["lost"]) == (["q2", "q3", "q4", "q5"], ["q1"])
    assert found["p_value"] == pytest.approx(2 * 6 / 32)
    assert found["interval"]["videos"] == 4
    assert found["groups"]["task"]["count"]["difference"] == 0.25
    page = home / "compared" / "paired.html"
    assert done.stdout.splitlines()[-1] == f"report: {Path('compared') / 'paired.html'}"
    assert page.read_text(encoding="utf-8").count("<article") == 5


def test_a_half_finished_run_is_compared_over_all_that_it_was_asked(home: Path) -> None:
    write_run(home / "runs" / "half", "gens", GENS[:4])
    done = gens("compare", "first=runs/uniform", "second=runs/half", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "second is unfinished: 4 without an answer yet, which count as wrong" in done.stdout
    (file,) = home.glob("runs/compare-*/comparison.json")
    assert json.loads(file.read_text())["second"]["statuses"] == {"ok": 4, "missing": 4}


def test_runs_over_different_questions_need_a_word(home: Path) -> None:
    write_run(home / "runs" / "limited", "gens", GENS[:6], ASKED[:6])
    refused = gens("compare", "first=runs/uniform", "second=runs/limited", cwd=home)
    assert refused.returncode == 2
    assert "8 in the first, 6 in the second, 6 in both" in refused.stderr
    assert "questions=common" in refused.stderr
    done = gens("compare", "first=runs/uniform", "second=runs/limited", "questions=common", "target=here", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "2 questions are in only one of the two" in done.stdout
    assert json.loads((home / "here" / "comparison.json").read_text())["questions"] == 6


def test_a_subset_is_compared_alone(home: Path) -> None:
    (home / "v_centric.txt").write_text("q2\nq3\nq7\n")
    done = gens("compare", "first=runs/uniform", "second=runs/gens", "subset=v_centric.txt", "target=here", cwd=home)
    assert done.returncode == 0, done.stderr
    assert json.loads((home / "here" / "comparison.json").read_text())["questions"] == 3


def test_answers_go_to_lmms_eval_and_its_samples_are_compared(home: Path) -> None:
    exported = gens("export", "answers=runs/gens", "form=lmms_eval_samples", "form.metric=lvb_acc", cwd=home)
    assert exported.returncode == 0, exported.stderr
    samples = home / "runs" / "gens" / "answers.lmms_eval_samples.jsonl"
    assert json.loads(samples.read_text().splitlines()[0])["lvb_acc"]["id"] == "q0"
    done = gens("compare", "first=runs/uniform", f"second={samples}", "target=here", cwd=home)
    assert done.returncode == 0, done.stderr
    assert json.loads((home / "here" / "comparison.json").read_text())["difference"] == 0.375
    foreign = json.loads(samples.read_text().splitlines()[0])
    foreign["lvb_acc"]["id"] = foreign["lvb_acc"]["question_id"] = "of another benchmark"
    foreign.update(doc_id=70, input="Who?")
    samples.write_text(samples.read_text() + json.dumps(foreign) + "\n")
    refused = gens("compare", "first=runs/uniform", f"second={samples}", cwd=home)
    assert refused.returncode == 2
    assert "1 rows of 9 are of no question of the run" in refused.stderr


def test_selected_frames_become_a_task_for_lmms_eval(home: Path) -> None:
    write_video(home / "v0.mp4")
    frames = (SelectedFrame(2.0, 8, 5.0, FrameOrigin.SAMPLER), SelectedFrame(7.0, 28, 3.0, FrameOrigin.SAMPLER))
    rows = [
        SelectionRow("key", "gens", each, None, Selection(each.id, frames if each.id == "q0" else (), "topk", 8))
        for each in ASKED[:2]
    ]
    (home / "selections.jsonl").write_bytes(b"".join(to_line(row) for row in rows))
    done = gens("export", "selections=selections.jsonl", "form=lmms_eval_task", "target=task", cwd=home)
    assert done.returncode == 1
    assert "1 of 2 selections as lmms_eval_task: task" in done.stdout
    assert "1 no_frames" in done.stderr
    assert sorted(path.name for path in (home / "task").iterdir()) == [
        "frames",
        "gens_frames.yaml",
        "gens_functions.py",
        "questions.jsonl",
    ]


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("first=runs/none", "second=runs/gens"), "first=runs/evaluate-"),
        (("first=runs/uniform", "second=runs/gens", "questions=all"), "one of same, common"),
        (("first=runs/uniform", "second=runs/gens", "group=tsk"), "'task'"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_remedy(home: Path, words: Sequence[str], remedy: str) -> None:
    done = gens("compare", *words, cwd=home)
    assert done.returncode == 2
    assert remedy in done.stderr


def test_a_form_says_what_it_is_made_from(home: Path) -> None:
    done = gens("export", "answers=runs/gens", "form=seconds", cwd=home)
    assert done.returncode == 2
    assert "selections=runs/" in done.stderr
