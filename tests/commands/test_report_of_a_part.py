"""``gens report subset=FILE``: the runs counted over a list of questions, beside the page over all of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import gens
from sweep_on_disk import make_sweep


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("sweep")).folder


def test_the_listed_questions_are_counted_and_the_page_over_all_stays(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "v_centric.txt").write_text("kitchen-1\nkitchen-2\n")
    assert gens("report", "runs=runs", "pictures=0", cwd=tmp_path).returncode == 0
    whole = (tmp_path / "runs" / "report.html").read_bytes()
    done = gens("report", "runs=runs", "pictures=0", "subset=v_centric.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "over 2 questions only: v_centric.txt" in done.stdout
    part = tmp_path / "runs" / "subset-v_centric"
    assert (tmp_path / "runs" / "report.html").read_bytes() == whole
    assert ", v_centric alone</h1>" in (part / "report.html").read_text(encoding="utf-8")
    assert {run["questions"] for run in json.loads((part / "summary.json").read_text())["runs"]} == {2}


def test_ids_of_no_run_are_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("kitchen-1\nkitchen-9\n")
    done = gens("report", f"runs={runs}", "subset=ids.txt", f"target={tmp_path}", cwd=tmp_path)
    assert done.returncode == 2
    assert "1 of 2 ids are of no question here: 'kitchen-9'" in done.stderr
    assert "subset=" in done.stderr
    assert not (tmp_path / "report.html").exists()
