"""On the micro benchmark, what runs together selects and answers word for word what stock ``generate`` does alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import one_at_a_time
import pytest
from command_line import gens

SETTINGS = (
    "sampler=gens_micro",
    "answerer=qwen2_vl_micro,llava_onevision_micro",
    *(
        f"{part}.checkpoint.{setting}"
        for part in ("sampler", "answerer")
        for setting in ("device=cpu", "dtype=float32")
    ),
)


def rows(runs: Path) -> dict[str, list[Any]]:
    """Of all runs in a folder, by run and file, without what they took."""
    found = {}
    for path in sorted(runs.glob("evaluate-*/*.jsonl")):
        if path.name != "events.jsonl":
            values = [_without_cost(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
            found[f"{path.parent.name}/{path.name}"] = sorted(values, key=str)
    return found


def _without_cost(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_cost(each) for key, each in value.items() if key not in ("cost", "alone")}
    return [_without_cost(each) for each in value] if isinstance(value, list) else value


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("videos", "minutes"),
    [(1, 3.0), pytest.param(60, 10.0, marks=pytest.mark.long)],
    ids=["5_questions", "300_questions"],
)
def test_together_is_what_it_is_one_at_a_time(
    videos: int, minutes: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-m", "benchmark=micro", f"benchmark.videos={videos}", f"benchmark.max_minutes={minutes}", *SETTINGS]
    written: list[int] = []
    alone = one_at_a_time.Alone._written
    monkeypatch.setattr(one_at_a_time.Alone, "_written", lambda *given: (written.append(given[1]), alone(*given))[1])

    done = gens("evaluate", *words, "paths.runs=together", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not written
    with one_at_a_time.one_at_a_time():
        done = gens("evaluate", *words, "paths.runs=apart", cwd=tmp_path, GENS_CACHE=str(tmp_path / "other"))
    assert done.returncode == 0, done.stderr

    together, apart = rows(tmp_path / "together"), rows(tmp_path / "apart")
    assert together.keys() == apart.keys()
    assert len([name for name in together if name.endswith(("/selections.jsonl", "/answers.jsonl"))]) == 4
    for name, ours in together.items():
        assert len(ours) == 5 * videos
        for row, stock in zip(ours, apart[name], strict=True):
            assert row == stock, name
    read = next(ours for name, ours in together.items() if name.endswith("/relevance.jsonl"))
    # Each question was asked about each window, and answered twice.
    assert len(written) == sum(len(row["relevance"]["windows"]) + 2 for row in read)
