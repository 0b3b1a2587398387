"""What earlier runs took is read without holding their scores."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from made_runs import made_run
from omegaconf import OmegaConf

from pipeline.checks.past import PastRuns


def test_a_large_run_is_measured_in_little_memory(tmp_path: Path) -> None:
    run = made_run(tmp_path / "one", 60, 4, 2700)
    (run / "config.yaml").write_text("sampler: {_target_: pipeline.samplers.gens.GensSampler, name: gens}\n")
    node = OmegaConf.create({"_target_": "pipeline.samplers.gens.GensSampler", "name": "gens"})
    PastRuns(tmp_path).of_video(node)
    tracemalloc.start()
    found = PastRuns(tmp_path).of_video(node)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None
    assert (found.questions, found.seconds, found.units) == (60, 150.0, 4 * 2700.0)
    assert peak < 3_000_000
