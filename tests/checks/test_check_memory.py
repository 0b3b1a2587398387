"""What models take of the memory, from the files that tell it, beside what the machine has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from safetensors.numpy import save_file
from tiny_yi_vl import write_yi_vl

from pipeline.checks import Level, memory
from pipeline.checks.devices import Gpu, Machine, this_machine
from pipeline.checks.memory import GIB, Prompts
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.errors import CheckpointError
from pipeline.families.loading.checkpoint import Checkpoint

H100 = Gpu(0, "NVIDIA H100 80GB HBM3", 80 * GIB, 79 * GIB)
ONE = Machine((H100,), 128 * GIB)
TWO = Machine((H100, Gpu(1, H100.name, 80 * GIB, 79 * GIB)), 128 * GIB)
NONE = Machine((), 16 * GIB)

# Keys and values of a token in bfloat16, from the configs on the hub.
SHAPES = {
    "Qwen2.5 3B": (
        {"num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2},
        2048,
        36_864,
    ),
    "Qwen2 7B": ({"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}, 3584, 57_344),
    "Qwen2 72B": ({"num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8}, 8192, 327_680),
    "Aria": ({"text_config": {"num_hidden_layers": 28, "num_attention_heads": 20}}, 2560, 286_720),
    "VILA 3B": ({"llm_cfg": {"num_hidden_layers": 32, "num_attention_heads": 20}}, 2560, 327_680),
    "Qwen3 with its own head size": (
        {
            "text_config": {
                "num_hidden_layers": 36,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
            }
        },
        2560,
        147_456,
    ),
}


def checkpoint(source: Path | str, device: str = "auto", dtype: str = "auto") -> Checkpoint:
    return Checkpoint(str(source), None, dtype, "auto", device)  # type: ignore[arg-type]


def write_shape(folder: Path, config: dict[str, Any], width: int) -> Path:
    """A checkpoint of a thousand numbers that says it is large."""
    config = json.loads(json.dumps(config))
    next((config[key] for key in config if isinstance(config[key], dict)), config)["hidden_size"] = width
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16", **config}))
    save_file({"weight": np.zeros((10, 100), np.float16)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("name", SHAPES)
def test_keys_and_values_are_those_of_the_language_model(tmp_path: Path, name: str) -> None:
    config, width, expected = SHAPES[name]
    folder = write_shape(tmp_path / "model", config, width)
    held = memory.model_memory("answerer.checkpoint", checkpoint(folder), Prompts(1000, 8), "20 GB", ONE)
    assert held.cache == expected * 1000
    assert held.weights == 2000
    assert held.total == 2000 + 8 * 1000 * expected
    assert (held.device, held.prompts) == ("cuda:0", 8)


def test_gens_as_released_is_read_through_its_own_defaults(tmp_path: Path) -> None:
    held = memory.model_memory("sampler.checkpoint", checkpoint(write_yi_vl(tmp_path)), Prompts(10, 1), "", ONE)
    assert held.cache
    assert held.weights


def test_on_a_cpu_a_model_is_twice_as_large(tmp_path: Path) -> None:
    folder = write_shape(tmp_path / "model", *SHAPES["Qwen2 7B"][:2])
    on_gpu = memory.model_memory("answerer.checkpoint", checkpoint(folder), Prompts(1, 1), "", ONE)
    on_cpu = memory.model_memory("answerer.checkpoint", checkpoint(folder), Prompts(1, 1), "", NONE)
    assert (on_gpu.weights, on_cpu.weights, on_cpu.device) == (2000, 4000, "cpu")
    as_told = memory.model_memory("answerer.checkpoint", checkpoint(folder, dtype="bfloat16"), Prompts(1, 1), "", NONE)
    assert as_told.weights == 2000


def test_a_checkpoint_that_is_not_whole_is_told(tmp_path: Path) -> None:
    folder = write_shape(tmp_path / "model", *SHAPES["Aria"][:2])
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="incomplete"):
        memory.model_memory("answerer.checkpoint", checkpoint(folder), Prompts(1, 1), "", ONE)
    with pytest.raises(CheckpointError, match="hub"):
        memory.model_memory("answerer.checkpoint", checkpoint("nobody/nothing"), Prompts(1, 1), "", ONE)


@pytest.mark.parametrize(
    ("weights", "cache", "prompts", "device", "machine", "level", "words"),
    [
        (16, 2, 8, "cuda:0", ONE, None, ""),
        (75, 1, 1, "cuda:0", ONE, Level.CANNOT_RUN, "smaller model"),
        (75, 1, 1, "cuda:0", TWO, Level.CANNOT_RUN, "answerer.checkpoint.device=spread"),
        (100, 1, 1, "spread", TWO, None, ""),
        (60, 20, 1, "cuda:0", ONE, Level.SOME_FAIL, "selection.budget="),
        (60, 5, 8, "cuda:0", ONE, Level.NOTE, "execution.answer_batch=1"),
        (30, 1, 1, "cpu", NONE, Level.CANNOT_RUN, "dtype=bfloat16"),
        (5, 1, 1, "cuda:1", ONE, Level.CANNOT_RUN, "device=auto"),
        (5, 1, 1, "cuda:0", NONE, Level.CANNOT_RUN, "device=auto"),
        (30, 1, 1, "cuda:0", Machine((Gpu(0, "H100", 80 * GIB, 10 * GIB),), GIB), Level.NOTE, "what else holds"),
    ],
)
def test_what_does_not_fit_says_what_helps(
    weights: int, cache: int, prompts: int, device: str, machine: Machine, level: Level | None, words: str
) -> None:
    held = memory.ModelMemory("answerer.checkpoint", "some/model", device, weights * GIB, cache * GIB, prompts, "20 GB")
    found = memory.findings([held], machine)
    assert [finding.level for finding in found] == ([] if level is None else [level])
    if level is not None:
        assert words in found[0].remedy


def test_models_of_one_stage_are_added() -> None:
    two = [
        memory.ModelMemory(f"sampler.{part}.checkpoint", part, "cuda:0", 40 * GIB, 0, 1, "")
        for part in ("first", "second")
    ]
    (finding,) = memory.findings(two, ONE)
    assert finding.level == Level.CANNOT_RUN
    assert "80.0 GiB" in finding.problem


def test_every_checkpoint_of_a_sampler_is_found() -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("evaluate", ["sampler=route", "sampler@sampler.localised=hybrid"])
    keys = [key for key, _, _ in memory.checkpoints(build(config.sampler, "sampler"), "sampler")]
    assert keys == ["sampler.localised.first.checkpoint", "sampler.localised.second.checkpoint"]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [(0, "NVIDIA H100 80GB HBM3", 81559), (1, "NVIDIA H200", 143771)]),
        ("1,0", [(0, "NVIDIA H200", 143771), (1, "NVIDIA H100 80GB HBM3", 81559)]),
        ("GPU-b", [(0, "NVIDIA H200", 143771)]),
        ("", []),
        ("7", []),
    ],
)
def test_gpus_are_those_that_the_run_will_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: list[tuple[int, str, int]]
) -> None:
    told = tmp_path / "nvidia-smi"
    told.write_text(
        "#!/bin/sh\n"
        "echo '0, GPU-a1b2, NVIDIA H100 80GB HBM3, 81559, 81079'\n"
        "echo '1, GPU-b3c4, NVIDIA H200, 143771, 143231'\n"
        "echo '2, GPU-c5d6, NVIDIA GB10, [N/A], [N/A]'\n"
    )
    told.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = this_machine()
    assert [(gpu.index, gpu.name, gpu.total // 2**20) for gpu in found.gpus] == expected
    assert found.memory > 0


def test_a_machine_without_gpus_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert this_machine().name == "no GPU"
