"""What lies where ``gens download`` puts it needs no path on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import made_benchmarks
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question
from pipeline.identity import configured


def composed(words: list[str]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate", words)


def load(words: list[str]) -> list[Question]:
    return list(build(composed(words).benchmark, "benchmark").questions())


@pytest.mark.parametrize(
    ("write", "questions"),
    [
        (made_benchmarks.longvideobench, 5),
        (made_benchmarks.mlvu, 8),
        (made_benchmarks.videomme, 9),
        (made_benchmarks.lvbench, 4),
        (made_benchmarks.hourvideo, 8),
    ],
)
def test_a_benchmark_is_found_under_the_data_folder(
    tmp_path: Path, write: Callable[[Path], list[str]], questions: int
) -> None:
    asked = load(write(tmp_path))
    assert len(asked) == questions
    for question in asked:
        files = [question.video, *(question.option_images or ())]
        if question.subtitles is not None:
            files.append(question.subtitles.path)
        for file in files:
            assert Path(file).is_file(), file


def test_generation_tasks_are_asked_when_nothing_is_left_out(tmp_path: Path) -> None:
    asked = load([*made_benchmarks.mlvu(tmp_path), "benchmark.leave_out=[]"])
    assert [question.id for question in asked if question.options is None] == ["sub_scene_0", "summary_0"]


def test_where_a_benchmark_comes_from_does_not_name_a_run() -> None:
    config = composed(["benchmark=longvideobench"])
    assert config.benchmark.origin.licence
    settings = OmegaConf.to_container(config.benchmark, resolve=True)
    assert "origin" not in configured(settings)
