"""GenS written as stock Aria is the same model to programs that know only that."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_aria import write_aria
from tiny_yi_vl import write_yi_vl
from transformers import AriaConfig, AriaForConditionalGeneration, AutoModelForImageTextToText, AutoTokenizer

from pipeline.errors import CheckpointError, InputError
from pipeline.families.aria import aria_config
from pipeline.families.aria.export import export, main
from pipeline.families.aria.model import YiVlAria, load_gens
from pipeline.families.aria.tokenizer import ChunkTokenizer
from pipeline.families.loading.checkpoint import Checkpoint, load

pytestmark = pytest.mark.moving


def at(folder: Path, dtype: Any = "float32") -> Checkpoint:
    return Checkpoint(str(folder), None, dtype, "eager", "cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_yi_vl(tmp_path_factory.mktemp("source"), seed=2, form="bin", shards=2)


@pytest.fixture(scope="module", params=[False, True], ids=["all sizes", "only 490"])
def target(request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "aria"
    export(at(source), folder, only_490=request.param)
    return folder


def inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    dice = torch.Generator().manual_seed(seed)
    ids = torch.randint(10, 380, (1, 280), generator=dice)
    ids[0, 5:133] = ids[0, 140:268] = 9
    return {"input_ids": ids, "pixel_values": torch.rand(2, 3, 490, 490, generator=dice) * 2 - 1}


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    # Without gradients torch's attention takes another, faster way, which rounds differently.
    found: torch.Tensor = model.eval().requires_grad_(False)(**inputs()).logits
    return found


def test_plain_transformers_loads_it_and_computes_the_same(source: Path, target: Path) -> None:
    stock, info = AutoModelForImageTextToText.from_pretrained(
        target, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    assert type(stock) is AriaForConditionalGeneration
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    raw = json.loads((source / "config.json").read_text())
    direct = load(YiVlAria, at(source), AriaConfig(**aria_config(raw, "it")))
    assert (logits(stock) - logits(direct)).abs().max() == 0
    assert stock.generation_config.eos_token_id == 2


def test_the_sampler_computes_the_same_from_either(source: Path, target: Path) -> None:
    from_source, from_target = (logits(load_gens(at(folder), masks=True).network) for folder in (source, target))
    assert (from_source - from_target).abs().max() == 0


def test_which_queries_are_kept(source: Path, tmp_path: Path) -> None:
    for only_490, rows in ((False, 256), (True, 128)):
        target = tmp_path / str(rows)
        export(at(source), target, only_490=only_490)
        kept = load_file(target / "model.safetensors")["multi_modal_projector.query"]
        counts = json.loads((target / "config.json").read_text())["projector_patch_to_query_dict"]
        assert len(kept) == rows == max(counts.values())
        assert counts["1225"] == 128


def test_the_number_format_stays(source: Path, tmp_path: Path) -> None:
    export(at(source, "bfloat16"), tmp_path / "half", only_490=False)
    written = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}


def test_plain_transformers_tokenises_as_the_authors_do(source: Path, target: Path) -> None:
    pytest.importorskip("google.protobuf", reason="transformers reads tokenizer.model with protobuf")
    prompt = (
        "<|im_start|>user\n[0]<fim_prefix><|img|><fim_suffix>\n[1]<fim_prefix><|img|><fim_suffix>\n"
        "Question: What is after the circle?  ü\n provide \n              their<|im_end|>\n<|im_start|>assistant\n"
    )
    chunks = ChunkTokenizer(source, 400)(prompt)
    ours = [token for place, chunk in enumerate(chunks) for token in ([9] if place else []) + chunk]
    assert AutoTokenizer.from_pretrained(target)(prompt, add_special_tokens=False).input_ids == ours


def test_what_aria_cannot_be_is_not_written(tmp_path: Path) -> None:
    source = write_yi_vl(tmp_path / "source", text={"norm_topk_prob": False})
    with pytest.raises(CheckpointError, match="norm_topk_prob=false"):
        export(at(source), tmp_path / "target", only_490=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_folder_with_something_in_it_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(InputError, match="not empty"):
        export(at(source), tmp_path, only_490=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Aria is none of the authors' layout."""
    aria = write_aria(tmp_path / "aria")
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint", str(aria), str(tmp_path / "again")])
    with pytest.raises(SystemExit, match=r"error: .*model_type is aria"):
        main()
