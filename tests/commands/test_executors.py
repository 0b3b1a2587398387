"""Which executor does a stage: by the settings, the GPUs, and what the sampler or the answerer holds."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from pipeline.checks import Level, admission, estimate, memory
from pipeline.checks.devices import Gpu, Machine
from pipeline.commands import executors
from pipeline.commands.executors import executor_of, overlapping, side_by_side, workplaces
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.errors import ConfigError
from pipeline.execution.local import LocalExecutor, OverlappedStages
from pipeline.execution.settings import ExecutionSettings, execution_settings

GIB = 2**30
TWO = Machine(tuple(Gpu(number, "H100", 80 * GIB, 80 * GIB) for number in range(2)), GIB)
ONE = Machine(TWO.gpus[:1], GIB)
NONE = Machine((), GIB)
MICRO = ("sampler=gens_micro", "answerer=qwen2_vl_micro")


def configured(*words: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate", [*MICRO, *words])


def chosen(*words: str, stage: Any = "sampler", videos: int = 5) -> Any:
    config = configured(*words)
    return executor_of(config, stage, build(config[stage], stage), videos, has_store=False)


@pytest.fixture
def _two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "this_machine", lambda: TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")


@pytest.mark.usefixtures("_two_gpus")
def test_two_gpus_have_a_worker_each_where_a_model_is_held_and_may_be_anywhere() -> None:
    for stage in ("sampler", "answerer"):
        found = chosen(stage=stage)
        assert isinstance(found, LocalExecutor)
        assert found.places == ("3", "5")
    assert chosen("execution=inline") is None
    assert chosen("sampler=uniform") is None
    assert chosen("answerer=gpt4o", stage="answerer") is None
    assert chosen("sampler.checkpoint.device=spread") is None
    assert chosen("sampler.checkpoint.device=cuda:1") is None
    assert chosen(videos=1) is None
    assert isinstance(chosen("execution=local", videos=1), LocalExecutor)
    assert chosen("execution=local", "execution.gpus_per_worker=2").places == ("3,5",)


@pytest.mark.usefixtures("_two_gpus")
def test_the_time_is_shared_by_workers_with_gpus_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(*words: str, videos: int = 5) -> int:
        config = configured(*words)
        return side_by_side(config, "sampler", build(config.sampler, "sampler"), videos)

    assert workers() == workers("execution=local", "execution.workers=4") == 2
    assert workers("execution=inline") == workers(videos=1) == workers("execution.gpus_per_worker=2") == 1
    told = estimate.shared(estimate.Estimate(60.0, "1 s a window"), 2)
    assert told == estimate.Estimate(30.0, "2 workers side by side; 1 s a window")
    monkeypatch.setattr(executors, "this_machine", lambda: NONE)
    assert workers("execution=local", "execution.workers=3") == 1


def test_a_model_is_checked_with_the_gpus_of_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (80, 24, 80, 24)
    four = Machine(tuple(Gpu(number, "GPU", size * GIB, size * GIB) for number, size in enumerate(sizes)), 64 * GIB)
    monkeypatch.setattr(executors, "this_machine", lambda: four)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def seen(*words: str, videos: int = 5) -> list[tuple[list[int], int]]:
        config = configured(*words)
        found = workplaces(config, videos, "sampler", build(config.sampler, "sampler"), four)
        assert all([gpu.index for gpu in each.gpus] == list(range(len(each.gpus))) for each in found)
        return [([gpu.total // GIB for gpu in each.gpus], each.sharing) for each in found]

    assert seen(videos=1) == [([80, 24, 80, 24], 1)]
    assert seen() == [([80], 1), ([24], 1)]
    assert seen("execution=local", "execution.gpus_per_worker=2") == [([80, 24], 1)]
    assert seen("execution=local", "execution.workers=5") == [([80], 2), ([24], 1), ([80], 1)]
    assert seen("execution=local", "execution.gpus_per_worker=0", "execution.workers=3") == [([], 3)]
    held = memory.ModelMemory("sampler.checkpoint", "some/model", "cuda:0", 40 * GIB, 0, 1, "")
    halved, whole = Machine(ONE.gpus, GIB, 2), Machine(ONE.gpus, GIB)
    assert memory.findings([held], whole) == []
    (finding,) = memory.findings([held], halved)
    assert finding.level is Level.CANNOT_RUN
    assert "36.0 GiB" in finding.problem
    assert "execution.workers=1" in finding.remedy


def test_without_a_gpu_the_work_is_done_here_unless_workers_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "this_machine", lambda: NONE)
    assert chosen() is None
    assert chosen("execution=local", "execution.workers=3").places == ("", "", "")


def test_an_executor_that_has_not_begun_holds_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "this_machine", lambda: NONE)
    before = len(os.listdir("/proc/self/fd"))
    made = [chosen("execution=local", "execution.workers=2") for _ in range(3)]
    assert all(isinstance(each, LocalExecutor) for each in made)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("gpus", "workers", "each", "places"),
    [
        (["0", "1", "2", "3"], None, 2, ("0,1", "2,3")),
        (["0", "1", "2"], None, 2, ("0,1",)),
        (["0", "1"], 3, 1, ("0", "1", "0")),
        (["0", "1"], 2, 0, ("", "")),
        ([], None, 1, ("",)),
    ],
)
def test_gpus_are_shared_out(gpus: list[str], workers: int | None, each: int, places: tuple[str, ...]) -> None:
    assert ExecutionSettings("local", workers, each, False, None, None).places(gpus) == places


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("execution.executor=locl", "execution=local"),
        ("execution.workers=0", "execution.workers=2"),
        ("execution.workers=1.5", "execution.workers=null"),
        ("execution.gpus_per_worker=-1", "execution.gpus_per_worker=1"),
        ("execution.overlap_stages=maybe", "execution.overlap_stages=false"),
        ("execution.worker_deadline=0", "execution.worker_deadline=3600"),
    ],
)
def test_settings_that_cannot_be_used_say_what_can(word: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=word) as refused:
        execution_settings(configured(word))
    assert remedy in refused.value.remedy


def test_a_worker_of_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are 1 GPUs") as refused:
        ExecutionSettings("local", None, 2, False, None, None).places(["0"])
    assert refused.value.remedy.endswith("execution.gpus_per_worker=1")


@pytest.mark.usefixtures("_two_gpus")
def test_stages_overlap_where_each_has_processes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*words: str) -> Any:
        config = configured(*words)
        parts = (build(config[name], name) for name in ("sampler", "answerer"))
        return overlapping(config, *parts, has_store=False)

    found = both("execution.overlap_stages=true")
    assert isinstance(found, OverlappedStages)
    assert found.places == ["3", "5", "3", "5"]
    assert both() is None
    assert both("execution.overlap_stages=true", "answerer=gpt4o") is None
    with pytest.raises(ConfigError, match="processes of its own"):
        both("execution=inline", "execution.overlap_stages=true")
    assert both("execution.overlap_stages=true", "sampler.checkpoint.device=cuda:1") is None
    for machine, names, places in ((ONE, "5", ["5", "5"]), (NONE, "", ["", ""])):
        monkeypatch.setattr(executors, "this_machine", lambda machine=machine: machine)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
        assert both("execution.overlap_stages=true").places == places


def test_models_that_do_not_fit_together_may_not_overlap() -> None:
    def found(overlap: str, memory: int) -> list[str]:
        config = configured("execution=local", f"execution.overlap_stages={overlap}")
        stages = [
            admission._Stage(name, build(config[name], name), Machine((), memory), needed=True, is_here=True)
            for name in ("sampler", "answerer")
        ]
        run = admission.Run(config, [], *(None,) * 5)  # type: ignore[arg-type]
        held = admission._held(run, stages, None, Machine((), memory))
        assert len(held) == 2
        sizes.append(max(model.total or 0 for _, model in held))
        return [fault.remedy for stage in stages for fault in stage.faults]

    sizes: list[int] = []
    assert found("true", GIB) == []
    enough_for_one = sizes[0] + 1
    assert found("false", enough_for_one) == []
    assert found("true", enough_for_one) == ["execution.overlap_stages=false"]
