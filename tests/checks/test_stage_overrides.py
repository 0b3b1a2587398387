"""An error that both stages may raise names the overrides of the stage that raised it, as they are typed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import gens
from hydra import compose, initialize_config_dir

from pipeline.commands import run
from pipeline.config import build, conf_dir
from pipeline.errors import CheckpointError, ConfigError, PipelineError

NOWHERE = "/nowhere/at/all"


def part(stage: str, name: str, *overrides: str) -> Any:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(f"{stage}/{name}", overrides=[*overrides, "+paths.cache=cache"])
    return build(config[stage], stage)


def told(error: PipelineError) -> list[str]:
    """The overrides of a remedy, without the marks of its sentence."""
    assert "for the sampler" not in error.remedy
    words = [word.strip("(;,") for word in error.remedy.split() if ".checkpoint." in word or ".frame" in word]
    return [f"{word.rstrip('.')}..." if "=..." in word else word.rstrip(".") for word in words]


@pytest.mark.parametrize(
    ("stage", "name", "given", "keys"),
    [
        ("answerer", "qwen2_vl_7b", ("checkpoint",), ["answerer.checkpoint.source=..."]),
        ("sampler", "clip", ("checkpoint",), ["sampler.checkpoint.source=..."]),
        ("sampler", "hybrid", ("second.checkpoint",), ["sampler.second.checkpoint.source=..."]),
        (
            "sampler",
            "hybrid",
            ("first.checkpoint", "second.checkpoint"),
            ["sampler.first.checkpoint.source=...", "sampler.second.checkpoint.source=..."],
        ),
    ],
)
def test_a_stage_that_runs_names_its_own_override(
    stage: str, name: str, given: tuple[str, ...], keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = part(stage, name, *(f"{stage}.{key}.source={NOWHERE}" for key in given))
    inner = made
    for attribute in given[0].split("."):
        inner = getattr(inner, attribute)

    def fails(*_: Any) -> Any:
        return inner.folder

    context: Any = SimpleNamespace(
        **dict.fromkeys(("reader", "relevances", "answers", "over_limit", "subtitles")),
        answer_batch=1,
        prepared_bytes=1,
        has_store=False,
    )
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", overrides=["execution=inline"])
    monkeypatch.setattr(run, "sample", fails)
    monkeypatch.setattr(run, "answer", fails)
    stages: dict[str, Any] = {
        "sampler": partial(run.first_stage, config, [], made, None, seen=run.Seen()),
        "answerer": partial(run.second_stage, config, [], made),
    }
    with pytest.raises(CheckpointError, match=NOWHERE) as caught:
        stages[stage](context, tmp_path)
    assert told(caught.value) == keys


@pytest.mark.parametrize(
    ("stage", "words", "keys"),
    [
        ("answerer", ("qwen2_vl_7b", "answerer.frame_size=[50,60]"), ["answerer.frame_size=[56,56]"]),
        (
            "sampler",
            ("gens_3b", "sampler.frame.height=50", "sampler.frame.width=60"),
            ["sampler.frame.height=56", "sampler.frame.width=56"],
        ),
        ("sampler", ("clip", "sampler.checkpoint.source=''"), ["sampler.checkpoint.source=..."]),
    ],
)
def test_a_part_that_cannot_be_built_names_its_own_override(
    stage: str, words: tuple[str, ...], keys: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        part(stage, *words)
    assert told(caught.value) == keys


def test_a_check_names_the_override_of_each_stage_once(tmp_path: Path) -> None:
    """Also of a sampler within a sampler, of which both the checkpoint and the identity are looked at."""
    done = gens(
        *("check", "benchmark=micro", "benchmark.videos=1", "limit=1", "sampler=hybrid"),
        *(f"sampler.first.checkpoint.source={NOWHERE}", f"answerer.checkpoint.source={NOWHERE}/else"),
        *("sampler@sampler.second=gens_micro", "answerer=qwen2_vl_micro"),
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    shown = " ".join(done.stdout.split())
    assert "for the sampler" not in shown
    assert shown.count("sampler.first.checkpoint.source=...") == shown.count("answerer.checkpoint.source=...") == 1
