from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.errors import CheckpointError, ConfigError, MissingExtraError
from pipeline.families.loading.checkpoint import Checkpoint, load, raw_config, release, resolve
from pipeline.families.loading.contents import bytes_in
from pipeline.families.loading.placement import check_fits, pick_attention, pick_device, pick_dtype

pytestmark = pytest.mark.moving


def at(source: Path | str, attention: str = "sdpa", dtype: str = "auto") -> Checkpoint:
    return Checkpoint(str(source), None, dtype, attention, "cpu")  # type: ignore[arg-type]


def load_it(checkpoint: Checkpoint) -> torch.nn.Module:
    from transformers import Qwen2VLForConditionalGeneration

    model: torch.nn.Module = load(Qwen2VLForConditionalGeneration, checkpoint)
    return model


def test_weights_come_back_as_they_were_written_in_float32_on_a_cpu(made: Path) -> None:
    from safetensors.torch import load_file

    model = load_it(at(made))
    written = load_file(made / "model.safetensors")
    assert torch.equal(model.lm_head.weight, written["lm_head.weight"])  # type: ignore[union-attr, arg-type]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_dtype_can_be_asked_for_and_memory_is_known_beforehand(made: Path) -> None:
    model = load_it(at(made, dtype="bfloat16"))
    held = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert bytes_in(made, torch.bfloat16) == held


def test_release_frees_the_tensors_though_the_model_is_still_held(made: Path) -> None:
    model = load_it(at(made))
    release(model)
    assert sum(parameter.numel() for parameter in model.parameters()) == 0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"(?s)no checkpoint folder .*nowhere.*checkpoint\.source="):
        raw_config(at(tmp_path / "nowhere"))


def test_a_folder_without_a_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)no config\.json.*checkpoint\.source="):
        resolve(at(folder))


def test_a_config_that_is_not_json(folder: Path) -> None:
    (folder / "config.json").write_text("<html>")
    with pytest.raises(CheckpointError, match=r"cannot be read as JSON"):
        raw_config(at(folder))


def test_no_such_checkpoint_and_no_network_say_how_to_fetch_it() -> None:
    with pytest.raises(CheckpointError) as caught:
        raw_config(at("nobody/no-such-model"))
    assert "nobody/no-such-model is not in the local cache" in caught.value.problem
    assert "huggingface-cli download" in caught.value.remedy
    assert "answerer.checkpoint.source=FOLDER" in caught.value.remedy


def test_a_name_that_is_no_hub_id_is_no_checkpoint() -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder Qwen2-VL"):
        resolve(at("Qwen2-VL"))
    with pytest.raises(CheckpointError, match="no checkpoint 'some body/model'"):
        resolve(at("some body/model"))


def test_an_empty_source_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"answerer\.checkpoint\.source="):
        at(" ")


@pytest.fixture
def hub_cache(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """The checkpoint as the hub's client leaves it in its cache; the network is off."""
    from huggingface_hub import constants

    from pipeline.families.loading import hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--maker--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    shutil.copytree(made, snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for cached in (hub.config_file, hub.snapshot):
        cached.cache_clear()
    return commit, snapshot


def test_a_cached_hub_checkpoint_works_without_network(hub_cache: tuple[str, Path]) -> None:
    _, snapshot = hub_cache
    checkpoint = at("maker/tiny")
    assert resolve(checkpoint).resolve() == snapshot.resolve()
    assert load_it(checkpoint).config.model_type == "qwen2_vl"  # type: ignore[union-attr]


def test_a_cached_hub_checkpoint_without_its_weights_is_not_taken_for_whole(hub_cache: tuple[str, Path]) -> None:
    (hub_cache[1] / "model.safetensors").unlink()
    assert raw_config(at("maker/tiny"))["model_type"] == "qwen2_vl"
    with pytest.raises(CheckpointError, match=r"(?s)download maker/tiny"):
        resolve(at("maker/tiny"))


def test_a_shard_that_its_index_names_is_absent(folder: Path) -> None:
    model = load_it(at(folder))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="300KB")  # type: ignore[operator]
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    load_it(at(folder))
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=rf"(?s)incomplete.*1 are not there \({shards[1].name}\)"):
        resolve(at(folder))


def test_a_download_that_broke_off(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"is incomplete: \d+ bytes where its header announces"):
        resolve(at(folder))
    weights.write_bytes(b"not")
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        resolve(at(folder))
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"there is no \*\.safetensors"):
        resolve(at(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"1 missing \(lm_head\.weight\)"),
        ("unexpected", r"1 unexpected \(extra\.weight\)"),
        ("shape", r"lm_head\.weight"),
    ],
)
def test_tensors_that_are_not_the_models_end_the_load(folder: Path, change: str, message: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    if change == "missing":
        del tensors["lm_head.weight"]
    elif change == "unexpected":
        tensors["extra.weight"] = torch.zeros(2)
    else:
        tensors["lm_head.weight"] = tensors["lm_head.weight"][:-8].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        load_it(at(folder))


def test_a_tensor_in_two_shards_is_named(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    half = {name: tensor for name, tensor in tensors.items() if "layers.0" not in name}
    for name, part in zip(names, (half, tensors), strict=True):
        save_file(part, folder / name, metadata={"format": "pt"})
    places = {name: names[0] if name in half else names[1] for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    with pytest.raises(CheckpointError, match=rf"is in two weight files: .*{names[0]} and {names[1]}"):
        resolve(at(folder))


def test_weights_that_are_there_in_two_copies_are_refused(folder: Path) -> None:
    load_it(at(folder)).save_pretrained(folder / "again", max_shard_size="300KB")  # type: ignore[operator]
    for path in (folder / "again").glob("model*"):
        path.rename(folder / path.name)
    with pytest.raises(CheckpointError, match=r"holds its weights twice: in model\.safetensors"):
        resolve(at(folder))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_not_taken_for_trained_ones(folder: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"].to(dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"holds lm_head\.weight as .*: it is quantised"):
        resolve(at(folder))


def test_flash_attention_that_is_not_installed_names_the_extra() -> None:
    if importlib.util.find_spec("flash_attn") is not None:
        pytest.skip("flash-attn is installed here")
    with pytest.raises(MissingExtraError) as caught:
        pick_attention("flash_attention_2", "cuda:0", torch.bfloat16)
    assert "pip install 'gens-videoqa[flash]'" in caught.value.remedy
    assert "answerer.checkpoint.attention=sdpa" in caught.value.remedy


def test_automatic_placement_on_a_cpu() -> None:
    assert pick_attention("auto", "cpu", torch.float32) == "sdpa"
    assert pick_dtype("auto", "bfloat16", "cpu") is torch.float32
    assert pick_dtype("auto", "bfloat16", "cuda:0") is torch.bfloat16


def test_a_device_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no device 'cuda:99'.*auto, cpu"):
        pick_device("cuda:99")


def test_a_gpu_too_small_is_known_before_loading() -> None:
    check_fits(16 * 2**30, {0: 24 * 2**30}, "Qwen/Qwen2-VL-7B-Instruct", "cuda:0")
    check_fits(135 * 2**30, {0: 130 * 2**30, 1: 130 * 2**30}, "Qwen/Qwen2-VL-72B-Instruct", "spread")
    with pytest.raises(CheckpointError, match=r"135\.0 GiB, and 2 GPUs have 158\.0 GiB"):
        check_fits(135 * 2**30, {0: 79 * 2**30, 1: 79 * 2**30}, "Qwen/Qwen2-VL-72B-Instruct", "spread")
    with pytest.raises(CheckpointError) as caught:
        check_fits(16 * 2**30, {0: 12 * 2**30}, "Qwen/Qwen2-VL-7B-Instruct", "cuda:0")
    assert "16.0 GiB, and cuda:0 has 12.0 GiB free" in caught.value.problem
    for override in ("source=", "dtype=bfloat16", "device=spread", "device=cpu"):
        assert override in caught.value.remedy


@pytest.mark.gpu
def test_a_model_can_be_spread_over_the_gpus_there_are(made: Path) -> None:
    model = load_it(Checkpoint(str(made), None, "bfloat16", "auto", "spread"))
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}


@pytest.mark.gpu
def test_on_a_gpu_the_model_takes_its_memory_and_gives_it_back(made: Path) -> None:
    before = torch.cuda.memory_allocated()
    model = load_it(Checkpoint(str(made), None, "bfloat16", "auto", "cuda:0"))
    assert torch.cuda.memory_allocated() > before
    release(model)
    assert torch.cuda.memory_allocated() <= before
