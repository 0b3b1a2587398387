from __future__ import annotations

import errno
import io
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sweep_on_disk import Sweep

from pipeline.artefacts.folder import QUESTIONS_FILE, write_questions
from pipeline.errors import InputError
from pipeline.reports.cards import cards, run_labels
from pipeline.reports.outlines import outlines
from pipeline.reports.policies import policy_words
from pipeline.reports.results import results_table
from pipeline.reports.runs import RunArtefacts, collect
from pipeline.reports.scoreboard import make_scoreboard, score


def _printed(runs: list[RunArtefacts], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(results_table([score(run) for run in runs]))
    return console.file.getvalue().rstrip().splitlines()


def test_table_fits_a_narrow_terminal(sweep: Sweep) -> None:
    lines = _printed(collect([sweep.folder]))
    assert len(lines) == 5
    assert lines[0].split() == ["sampler", "answerer", "accuracy", "right", "evidence", "recall", "failed"]
    assert lines[1].split() == ["gens_micro", "llava_onevision_micro", "60.0", "%", "3", "of", "5", "75.0", "%", "2"]


def test_names_are_not_read_as_markup(sweep: Sweep) -> None:
    run = collect([sweep.folder])[0]
    odd = replace(run, answers=tuple(replace(row, answerer="[bold]vl[/]") for row in run.answers))
    assert any("[bold]vl[/]" in line for line in _printed([odd]))


def test_budgets_and_repeats_are_told_apart(sweep: Sweep) -> None:
    run = collect([sweep.folder])[0]
    smaller = replace(
        run,
        name="k4",
        selections=tuple(
            replace(row, selection=replace(row.selection, policy="topk 4", frames=row.selection.frames[:4]))
            for row in run.selections
        ),
    )
    assert "selection" in _printed([run, smaller], 120)[0]
    again = replace(run, name="again")
    assert _printed([run, again])[0].split()[:2] == ["run", "accuracy"]
    assert run_labels([run, again]) == {run.name: run.name, "again": "again"}
    laid = make_scoreboard([score(each) for each in (run, smaller, again)])
    assert len(laid.rows) == 3
    assert sorted(row.run for row in laid.rows) == ["", "again", run.name]


def test_run_stopped_early_is_held_to_all_questions(sweep: Sweep, tmp_path: Path) -> None:
    shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", tmp_path / "whole")
    shutil.copytree(sweep.folder / "uniform-llava_onevision_micro", tmp_path / "stopped")
    write_questions(next(run for run in collect([sweep.folder])).questions, tmp_path / "stopped")
    for file in (path for path in (tmp_path / "stopped").glob("*.jsonl") if path.name != QUESTIONS_FILE):
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:2]))
    stopped = score(next(run for run in collect([tmp_path]) if run.name == "stopped"))
    assert stopped.accuracy is not None
    assert (stopped.accuracy.overall.correct, stopped.accuracy.overall.total) == (1, 5)
    assert stopped.unanswered == 5
    assert "answers.jsonl holds 1 of 6 questions." in stopped.run.missing
    assert _printed([stopped.run])[1].endswith("0 + 5 missing")


def test_a_question_that_is_no_longer_asked_is_not_counted(sweep: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", folder)
    (run,) = collect([folder])
    first, second, *_ = run.questions
    (folder / QUESTIONS_FILE).unlink()
    write_questions([first, replace(second, text="asked anew, and not answered yet")], folder)
    (again,) = collect([folder])
    assert [question.id for question in again.questions] == [first.id, second.id]
    assert score(again).unanswered == 1


@pytest.mark.parametrize("damaged", ["null", "[1]", '{"versions": 3}', "a: 2024-13-45", "[" * 5000, "\0"])
def test_damage_to_what_tells_of_a_run_costs_no_row(sweep: Sweep, tmp_path: Path, damaged: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", folder)
    for name in ("run.json", "config.yaml"):
        (folder / name).write_text(damaged, encoding="utf-8")
    (run,) = collect([folder])
    assert (len(run.answers), run.benchmark) == (6, "")


def test_a_run_that_may_not_be_read_is_left_out_by_name(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("mine", "theirs"):
        shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", tmp_path / name)
    opened = Path.open

    def denied(path: Path, *given: Any, **named: Any) -> Any:
        if "theirs" in path.parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *given, **named)

    monkeypatch.setattr(Path, "open", denied)
    (run,) = collect([tmp_path])
    assert run.name == "mine"
    assert re.search(r"left out: .*theirs.*: Permission denied", capsys.readouterr().err)


def test_last_answer_to_a_question_counts(sweep: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sweep.folder / "gens_micro-qwen2_vl_micro", folder)
    better = (sweep.folder / "gens_micro-llava_onevision_micro" / "answers.jsonl").read_text().splitlines()[1]
    with (folder / "answers.jsonl").open("a") as file:
        file.write(better.replace("llava_onevision_micro", "qwen2_vl_micro") + "\n")
    (run,) = collect([folder])
    assert len(run.answers) == 6
    counted = score(run)
    assert counted.accuracy is not None
    assert counted.accuracy.overall.correct == 3


def test_of_a_policy_what_differs_from_its_file_is_told(sweep: Sweep) -> None:
    run = collect([sweep.folder])[0]
    policy = "topk budget=8 ties=spread fits=all fill=uniform fallback=none uniform=linspace"
    rows = tuple(replace(row, selection=replace(row.selection, policy=policy)) for row in run.selections)
    words = {
        "name: topk": "topk fill=uniform",
        "name: topk_filled": "topk_filled fallback=none",
        "name: my_own": policy.replace(" budget=8", ""),
    }
    for named, told in words.items():
        made = replace(run, selections=rows, settings=f"selection:\n  {named}\n  budget: 8\n")
        assert policy_words(made) == told
        assert make_scoreboard([score(made)]).rows[0].selection == told


def test_losses_are_split_by_what_was_shown(sweep: Sweep) -> None:
    runs = {run.name: score(run) for run in collect([sweep.folder])}
    gens = runs["gens_micro-qwen2_vl_micro"]
    assert (gens.when_shown.correct, gens.when_shown.total) == (2, 3)
    assert (gens.when_missed.correct, gens.when_missed.total) == (0, 1)
    assert gens.failures == {"unparsed": 1, "missing_video": 1}
    assert gens.frames == {0: 1, 8: 5}


def test_answerers_share_a_card_and_its_first_stage(sweep: Sweep) -> None:
    found = list(cards(collect([sweep.folder])))
    assert [card.question.id for card in found] == [
        "kitchen-1",
        "kitchen-2",
        "kitchen-3",
        "street-1",
        "street-2",
        "gone-1",
    ]
    assert [len(card.routes) for card in found] == [2] * 6
    assert [len(route.answers) for card in found for route in card.routes] == [2] * 12
    assert found[4].disagree is False, "free texts differ without disagreeing"


def test_an_outline_says_what_its_card_says(sweep: Sweep) -> None:
    """Also of a run that has not come to all questions, and of one without a second stage."""
    runs = collect([sweep.folder])
    first, *others = runs
    stopped = replace(first, name="stopped", answers=tuple(first.answers)[:2], selections=tuple(first.selections)[:4])
    sampled = replace(first, name="sampled", answers=(), settings="")
    for some in ([first], runs, [stopped], [sampled], [stopped, sampled, *others]):
        found = list(cards(some))
        assert [(each.number, each.question, each.is_marked, each.notes) for each in outlines(some)] == [
            (card.number, card.question, bool(card.marks), card.notes) for card in found
        ]


def test_questions_of_two_benchmarks_with_one_id_stay_apart(sweep: Sweep) -> None:
    run = collect([sweep.folder / "uniform-qwen2_vl_micro"])[0]
    other = replace(
        run,
        name="other",
        asked=(),
        **{
            part: tuple(replace(row, question=replace(row.question, text="Another?")) for row in getattr(run, part))
            for part in ("relevance", "selections", "answers")
        },
    )
    assert len(list(cards([run, other]))) == 12


def test_folder_without_a_run_says_what_a_run_is(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        collect([tmp_path, tmp_path / "nothing"])
    assert "answers.jsonl" in error.value.remedy


def test_run_folders_are_named_by_their_place(sweep: Sweep, tmp_path: Path) -> None:
    for place in ("a/x", "b/x", "c"):
        shutil.copytree(sweep.folder / "uniform-qwen2_vl_micro", tmp_path / place)
    assert [run.name for run in collect([tmp_path])] == ["a/x", "b/x", "c"]
    assert [run.name for run in collect([tmp_path / "a" / "x"])] == ["x"]
    assert len(collect([tmp_path / "a", tmp_path / "a" / "x"])) == 1
