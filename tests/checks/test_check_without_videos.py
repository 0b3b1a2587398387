"""``gens check`` on a machine that has a benchmark's annotations alone: what is not known is not told as nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from pipeline.commands.check import make_report
from pipeline.config import conf_dir, register_resolvers


@pytest.mark.parametrize("sampler", ["uniform", "gens_micro"])
def test_time_and_money_are_unknown_and_not_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"video": "gone.mp4", "question": "what?", "options": ["a", "b"], "answer": "b"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row))
    words = [f"paths.cache={tmp_path / 'cache'}", "benchmark=jsonl", "benchmark.path=questions.jsonl"]
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        report = make_report(compose("check", [*words, f"sampler={sampler}", "answerer=qwen2_vl_micro"]))
    assert report.exit_code == 1
    assert [finding.problem for finding in report.findings] == ["missing videos: 1, of 1 questions"]
    assert report.plan is None
    assert {estimate.amount for estimate in [*report.times.values(), report.money]} == {None}
