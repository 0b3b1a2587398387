"""Runs that are killed at random moments end as an undisturbed one: ``scripts/chaos`` and ``scripts/soak`` in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import disturbed, soaked


def test_a_disturbed_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    disturbed.rounds(tmp_path / "runs", 1, seed=3, executors=["inline"], videos=1)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_so_do_runs_with_several_workers(tmp_path: Path) -> None:
    disturbed.rounds(tmp_path / "runs", 6, seed=3, executors=["local"], videos=2)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_the_processes_of_a_long_run_do_not_grow(tmp_path: Path) -> None:
    questions = soaked.write_questions(tmp_path, 200, 10)
    soaked.watched(tmp_path / "whole", soaked.start(tmp_path / "whole", questions, 2), 2000)
    soaked.killed(tmp_path / "killed", soaked.start(tmp_path / "killed", questions, 2))


def test_another_row_and_a_missing_one_are_seen(tmp_path: Path) -> None:
    """The rounds themselves can fail."""
    from made_runs import made_run

    run = made_run(tmp_path / "run", 3, 1, 60)
    calm = disturbed.rows_of(run)
    assert {name: len(rows) for name, rows in calm.items()} == dict.fromkeys(disturbed.FILES, 3)
    answers = run / "answers.jsonl"
    whole = answers.read_bytes()
    answers.write_bytes(whole[: whole.rstrip(b"\n").rfind(b"\n") + 1])
    with pytest.raises(disturbed.Fault, match="no row of"):
        disturbed.rows_of(run)
    answers.write_bytes(whole + whole[: whole.find(b"\n") + 1])
    with pytest.raises(disturbed.Fault, match="4 lines for 3 questions"):
        disturbed.rows_of(run)
    answers.write_bytes(whole.replace(b'"A"', b'"B"'))
    assert disturbed.rows_of(run)["answers.jsonl"] != calm["answers.jsonl"]
