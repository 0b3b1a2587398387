"""GenS in the authors' layout becomes Aria tensor for tensor, or is refused by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_yi_vl import EXPERTS, HIDDEN, LAYERS, tensors, write_weights, write_yi_vl

from pipeline.errors import CheckpointError
from pipeline.families.aria import NAMES, aria_config, renormalises
from pipeline.families.aria.model import DeepseekRouter, load_gens, place_patches_exactly, position_rows
from pipeline.families.aria.processor import AriaShape, Canvas, shape_of
from pipeline.families.loading.checkpoint import Checkpoint

pytestmark = pytest.mark.moving


def at(folder: Path, dtype: Any = "float32") -> Checkpoint:
    return Checkpoint(str(folder), None, dtype, "eager", "cpu")


def network(checkpoint: Checkpoint) -> Any:
    """With the mask, which leaves the stock positions."""
    return load_gens(checkpoint, masks=True).network


def config_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "config.json").read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_yi_vl(tmp_path_factory.mktemp("yi_vl"))


def in_arias_names(official: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The key map written out by hand, tensor by tensor."""
    made = {
        "model.vision_tower.post_layernorm.weight": torch.ones(32),
        "model.vision_tower.post_layernorm.bias": torch.zeros(32),
    }
    moved = {
        "cross_attn.ln_kv.": "cross_attn.layer_norm_kv.",
        "ln_ffn.": "layer_norm.",
        "ffn.": "feed_forward.",
    }
    for name, tensor in official.items():
        if name.startswith("vision_tower.vision_model."):
            made["model.vision_tower." + name.removeprefix("vision_tower.vision_model.")] = tensor
        elif name.startswith("multi_modal_projector."):
            inner = name.removeprefix("multi_modal_projector.")
            start = next((old for old in moved if inner.startswith(old)), "")
            made["model.multi_modal_projector." + moved.get(start, "") + inner.removeprefix(start)] = tensor
        elif name == "language_model.lm_head.weight":
            made["lm_head.weight"] = tensor
        elif ".mlp.experts." not in name:
            inner = name.removeprefix("language_model.model.").replace(".mlp.gate.weight", ".mlp.router.weight")
            made["model.language_model." + inner] = tensor
    for layer in range(LAYERS):
        here = f"language_model.model.layers.{layer}.mlp.experts."
        there = f"model.language_model.layers.{layer}.mlp.experts."
        part = {
            kind: [official[f"{here}{expert}.{kind}_proj.weight"].T for expert in range(EXPERTS)]
            for kind in ("gate", "up", "down")
        }
        both = [torch.cat([gate, up], dim=1) for gate, up in zip(part["gate"], part["up"], strict=True)]
        made[there + "gate_up_proj"] = torch.stack(both)
        made[there + "down_proj"] = torch.stack(part["down"])
    return made


@pytest.mark.parametrize(("form", "shards"), [("safetensors", 1), ("safetensors", 3), ("bin", 1), ("bin", 3)])
def test_every_tensor_is_in_its_place(tmp_path: Path, form: Any, shards: int) -> None:
    checkpoint = write_yi_vl(tmp_path, seed=4, form=form, shards=shards)
    vocab = config_of(checkpoint)["text_config"]["vocab_size"]
    expected = in_arias_names(tensors(vocab, seed=4))
    found = network(at(checkpoint)).state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_number_format_is_the_one_asked_for(folder: Path) -> None:
    model = network(at(folder, "bfloat16"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    # Rotations in 8 bits would be wrong from a few hundred positions on.
    assert model.model.language_model.rotary_emb.inv_freq.dtype == torch.float32


# --- what is not exactly the checkpoint ----------------------------------------------------------------------------

FIRST = "language_model.model.layers.0."
CHANGES = {
    "a part of an expert is missing": lambda t: t.pop(FIRST + "mlp.experts.1.up_proj.weight"),
    "an expert is missing": lambda t: [t.pop(FIRST + f"mlp.experts.7.{part}_proj.weight") for part in ("gate", "up")],
    "an expert's output is missing": lambda t: t.pop(FIRST + "mlp.experts.10.down_proj.weight"),
    "a norm is missing": lambda t: t.pop("language_model.model.norm.weight"),
    "the queries are missing": lambda t: t.pop("multi_modal_projector.query"),
    "a vision layer is missing": lambda t: [t.pop(name) for name in list(t) if ".encoder.layers.1." in name],
    "the head is missing": lambda t: t.pop("language_model.lm_head.weight"),
    "there is one more": lambda t: t.update({"language_model.model.extra.weight": torch.zeros(2)}),
    "a gate is one too wide": lambda t: t.update({FIRST + "mlp.gate.weight": torch.zeros(EXPERTS + 1, HIDDEN)}),
    "there is one more expert": lambda t: t.update(
        {
            FIRST + f"mlp.experts.{EXPERTS}.{part}_proj.weight": t[FIRST + f"mlp.experts.0.{part}_proj.weight"].clone()
            for part in ("gate", "up", "down")
        }
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_tensors_amiss_end_the_load(tmp_path: Path, change: str) -> None:
    checkpoint = write_yi_vl(tmp_path)
    made = load_file(checkpoint / "model.safetensors")
    CHANGES[change](made)
    save_file(made, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"checkpoint\.source"):
        network(at(checkpoint))


class Intruder:
    """Touches a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def test_a_bin_file_runs_no_code(tmp_path: Path) -> None:
    checkpoint = write_yi_vl(tmp_path, form="bin")
    trace = tmp_path / "trace"
    vocab = config_of(checkpoint)["text_config"]["vocab_size"]
    torch.save({**tensors(vocab, 0), "intruder": Intruder(trace)}, checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        network(at(checkpoint))
    assert not trace.exists()
    # It would have.
    pickle.loads(pickle.dumps(Intruder(trace)))
    assert trace.exists()


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    checkpoint = write_yi_vl(tmp_path, form="bin", shards=3)
    (checkpoint / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model-00002-of-00003\.bin"):
        network(at(checkpoint))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("text", "scoring_func", "sigmoid"),
        ("text", "first_k_dense_replace", 1),
        ("text", "moe_layer_freq", 2),
        ("text", "rope_scaling", {"type": "linear", "factor": 2.0}),
        ("text", "attention_bias", True),
        ("text", "hidden_act", "gelu"),
        ("text", "pretraining_tp", 2),
        ("text", "tie_word_embeddings", True),
        ("text", "model_type", "llama"),
        ("text", "n_routed_experts", None),
        ("text", "n_shared_experts", None),
        ("text", "num_experts_per_tok", 13),
        ("vision", "model_type", "clip_vision_model"),
        ("vision", "hidden_act", "gelu"),
        ("vision", "patch_size", 16),
        ("vision", "num_channels", 1),
        ("vision", "image_size", 975),
        ("config", "mm_projector", "mlp"),
        ("config", "mm_projector", None),
        ("config", "mm_use_im_start_end", False),
        ("config", "vision_feature_select_strategy", "default"),
        ("config", "vision_feature_select_strategy", None),
        ("config", "tokens_per_image", []),
        ("config", "tokens_per_image", [128, "256"]),
        ("config", "quantization_config", {"quant_method": "fp8"}),
    ],
)
def test_a_config_that_aria_cannot_be_is_refused_by_name(tmp_path: Path, section: str, key: str, value: Any) -> None:
    changed: Any = {section: {key: value}}
    with pytest.raises(CheckpointError, match=rf"{key}="):
        network(at(write_yi_vl(tmp_path, **changed)))


def test_another_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="model_type is llava"):
        network(at(write_yi_vl(tmp_path, config={"model_type": "llava"})))


# --- the config -----------------------------------------------------------------------------------------------------


def test_absent_keys_mean_the_authors_defaults(tmp_path: Path) -> None:
    """The authors' classes leave out what equals their defaults; Aria's are others."""
    absent = dict.fromkeys(
        ["rope_theta", "rms_norm_eps", "norm_topk_prob", "max_position_embeddings", "num_key_value_heads"]
    )
    raw = config_of(
        write_yi_vl(tmp_path, text=absent, vision={"layer_norm_eps": None}, config={"tokens_per_image": None})
    )
    made = aria_config(raw, "it")
    assert made["text_config"]["rope_parameters"] == {"rope_type": "default", "rope_theta": 10000.0}
    assert made["text_config"]["rms_norm_eps"] == 1e-6
    assert made["text_config"]["max_position_embeddings"] == 2048
    assert made["text_config"]["num_key_value_heads"] == 32
    assert made["vision_config"]["layer_norm_eps"] == 1e-6
    assert made["projector_patch_to_query_dict"] == {1225: 128, 4900: 128}
    assert not renormalises(raw)


def test_the_processor_takes_absent_keys_as_the_authors_do(tmp_path: Path) -> None:
    """The context that windows are held to is not Aria's, and its tokens are not either."""
    names = ["max_position_embeddings", "vocab_size"]
    absent = write_yi_vl(tmp_path, text=dict.fromkeys(names), config={"tokens_per_image": 64})
    assert not set(names) & set(config_of(absent)["text_config"])
    sizes = shape_of(at(absent), NAMES)
    assert sizes == AriaShape(context_tokens=2048, frame_tokens=64, image_token=9, vocabulary=100352)
    processor = Canvas("none").opened(at(absent)).processor
    assert processor.context_tokens == 2048
    assert processor.shape(336, 588).tokens == 64


@pytest.mark.parametrize(
    ("tokens", "image_size", "expected"),
    [
        ([128, 256], 980, {1225: 128, 4900: 256}),
        ([256, 128], 980, {1225: 128, 4900: 256}),
        (64, 980, {1225: 64, 4900: 64}),
        ([128, 256], 490, {1225: 256}),
    ],
)
def test_how_many_tokens_a_frame_is(folder: Path, tokens: Any, image_size: int, expected: dict[int, int]) -> None:
    raw = config_of(folder)
    raw["tokens_per_image"] = tokens
    raw["vision_config"]["image_size"] = image_size
    assert aria_config(raw, "it")["projector_patch_to_query_dict"] == expected


# --- routing and positions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("renormalise", [True, False])
def test_routing_is_worked_out_by_hand(renormalise: bool) -> None:
    weight = torch.nn.Parameter(torch.eye(3))
    _, weights, chosen = DeepseekRouter(weight, 2, renormalise)(torch.tensor([[1.0, 2.0, 4.0]]).log())
    order = chosen[0].argsort(descending=True)
    assert chosen[0, order].tolist() == [2, 1]
    expected = [4 / 6, 2 / 6] if renormalise else [4 / 7, 2 / 7]
    assert weights[0, order].tolist() == pytest.approx(expected)


def test_one_expert_alone_keeps_its_weight() -> None:
    """The authors' code renormalises two or more: one would always weigh 1."""
    _, weights, _ = DeepseekRouter(torch.nn.Parameter(torch.eye(2)), 1, True)(torch.tensor([[1.0, 3.0]]).log())
    assert weights.tolist() == [[pytest.approx(0.75)]]


@pytest.mark.parametrize("flag", [True, False])
def test_the_config_says_which_routing(tmp_path: Path, flag: bool) -> None:
    model = network(at(write_yi_vl(tmp_path, text={"norm_topk_prob": flag})))
    sums = []
    for layer in model.model.language_model.layers:
        layer.mlp.router.register_forward_hook(lambda _, inputs, outputs: sums.append(outputs[1].sum(-1)))
    with torch.inference_mode():
        model(input_ids=torch.arange(20)[None])
    total = torch.cat(sums)
    assert torch.allclose(total, torch.ones_like(total)) == flag


def test_positions_in_integers_are_those_of_the_stock_arithmetic(folder: Path) -> None:
    model = network(at(folder))
    rows: list[torch.Tensor] = []
    table = model.model.vision_tower.embeddings.position_embedding
    table.register_forward_hook(lambda _, inputs, output: rows.append(inputs[0]))
    pixels = torch.zeros(2, 3, 490, 490)
    with torch.inference_mode():
        stock = model.model.get_image_features(pixels).pooler_output
        place_patches_exactly(model)
        assert torch.equal(model.model.get_image_features(pixels).pooler_output, stock)
    expected = [2 * row * 70 + 2 * column for row in range(35) for column in range(35)]
    assert position_rows(980) == expected
    assert [found.tolist() for found in rows] == [[expected, expected]] * 2
    assert position_rows(490) == list(range(35 * 35))


def test_weights_of_another_seed_are_another_model(tmp_path: Path, folder: Path) -> None:
    """The tensors come from the file, and not from an initialisation."""
    other = write_yi_vl(tmp_path, seed=9)
    vocab = config_of(other)["text_config"]["vocab_size"]
    one = network(at(folder)).lm_head.weight
    assert torch.equal(one, tensors(vocab, 0)["language_model.lm_head.weight"])
    write_weights(other, tensors(vocab, 0), "safetensors", 1)
    assert torch.equal(network(at(other)).lm_head.weight, one)
