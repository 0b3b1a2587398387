"""LLaVA-Video beside what its authors' code computed, in float32 on a CPU.

The numbers are of a tiny random checkpoint in the authors' layout and lie outside of this repository: GENS_FIXTURES
names the folder that holds ``llava-video-tiny``. The tests here skip where it is not set.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asking import answered
from hydra import compose, initialize_config_dir
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from pipeline.answerers import AnswerRequest
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Frame, Question, Video
from pipeline.errors import CheckpointError
from pipeline.families.llava_video import model as llava_video
from pipeline.families.llava_video.answerer import LlavaVideo

TOLERANCE = 5e-5
"""On the logits of the last prompt position; 1.2e-5 was seen."""
NEW_TOKENS = 16
CASES = ("a_4f_640x360", "b_7f_320x480", "a_4f_640x360_average")
BILINEAR = CASES[0]


@pytest.fixture(scope="module")
def folder() -> Path:
    root = os.environ.get("GENS_FIXTURES")
    if root is None:
        pytest.skip("GENS_FIXTURES does not name the folder with the numbers of the authors' code")
    return Path(root) / "llava-video-tiny"


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "expected.safetensors")


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "expected.json").read_text())["cases"]
    assert isinstance(found, dict)
    return found


class Run:
    """One case through ``answerer=llava_video_7b``, as the command line makes it, with the authors' words."""

    def __init__(self, source: Path, folder: Path, case: dict[str, Any], *overrides: str) -> None:
        register_resolvers()
        given = [
            "answerer=llava_video_7b",
            f"answerer.checkpoint.source={source}",
            "answerer.checkpoint.device=cpu",
            "answerer.checkpoint.dtype=float32",
            "answerer.checkpoint.attention=eager",
            "answerer.time_instruction=official",
            "answerer.prompt.free='{question}'",
            f"answerer.max_new_tokens={NEW_TOKENS}",
        ]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            made = build(compose("answer", [*given, *overrides]).answerer, "answerer")
        assert isinstance(made, LlavaVideo)
        self.answerer = made
        times = [float(index / case["fps"]) for index in case["frame_idx"]]
        shown = [np.asarray(Image.open(folder / file).convert("RGB")) for file in case["frames"]]
        self.request = AnswerRequest(
            Question("q", "v.mp4", case["question"]),
            Video("v.mp4", "0", case["video_time"], case["fps"], case["total_frames"], *case["frame_size_wh"]),
            tuple(Frame(*each) for each in zip(times, case["frame_idx"], shown, strict=True)),
        )

    @property
    def network(self) -> Any:
        return self.answerer.model.network

    def fed(self) -> dict[str, torch.Tensor]:
        """The arguments of the network's ``forward`` for the whole prompt."""
        prompt = self.answerer.encode(self.request)
        return self.answerer.model.arguments(prompt, prompt.tokens)

    @torch.inference_mode()
    def logits(self) -> torch.Tensor:
        logits: torch.Tensor = self.network(**self.fed(), logits_to_keep=1).logits[0, -1]
        return logits


def overrides_of(name: str) -> list[str]:
    return ["answerer.pooling=average"] if "average" in name else []


@pytest.fixture(scope="module", params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run(name: str, folder: Path, cases: dict[str, Any]) -> Run:
    return Run(folder / "checkpoint", folder, cases[name], *overrides_of(name))


# --- equal ------------------------------------------------------------------------------------------------------------


def test_prompt_and_ids(run: Run, name: str, cases: dict[str, Any]) -> None:
    """Theirs hold -200 once, ours the placeholder as often as the video has tokens."""
    case, processor = cases[name], run.answerer.processor
    ours = run.answerer.encode(run.request).input_ids.tolist()
    theirs = case["input_ids"]
    at, video = theirs.index(-200), case["num_video_tokens"]
    assert ours == [*theirs[:at], *[processor.picture_token] * video, *theirs[at + 1 :]]
    assert len(ours) == case["sequence_length"]
    before, behind = (processor.tokenizer.decode(part) for part in (ours[:at], ours[at + video :]))
    assert case["prompt"] == f"{before}<image>{behind}"
    assert video == case["tokens_per_frame"] * len(run.request.frames)


def test_prompt_without_times(folder: Path, cases: dict[str, Any]) -> None:
    ours = Run(folder / "checkpoint", folder, cases[BILINEAR], "answerer.time_instruction=none")
    processor = ours.answerer.processor
    ids = ours.answerer.encode(ours.request).input_ids.tolist()
    at = ids.index(processor.picture_token)
    behind = at + cases[BILINEAR]["num_video_tokens"]
    theirs = json.loads((folder / "expected.json").read_text())["prompt_variant_lmms_eval_default"]
    assert f"{processor.tokenizer.decode(ids[:at])}<image>{processor.tokenizer.decode(ids[behind:])}" == theirs


def test_pixels(run: Run, name: str, cases: dict[str, Any], expected: dict[str, torch.Tensor]) -> None:
    [pixels] = run.fed()["pixel_values_videos"]
    digest = hashlib.sha256(pixels.numpy().astype("<f4").tobytes()).hexdigest()
    assert digest == cases[name]["pixel_values"]["sha256_f32"]
    assert torch.equal(pixels[:, :, ::16, ::16], expected[f"{name}.pixel_values_strided16"])


@torch.inference_mode()
def test_video_tokens(run: Run, name: str, expected: dict[str, torch.Tensor]) -> None:
    pixels = run.fed()["pixel_values_videos"]
    [tokens] = run.network.model.get_video_features(pixels).pooler_output
    theirs = expected.get(f"{name}.video_tokens")
    if theirs is None:
        theirs = torch.cat([expected[f"{name}.video_tokens_{part}"] for part in ("first_420", "last_60")])
        tokens = torch.cat([tokens[:420], tokens[-60:]])
    torch.testing.assert_close(tokens, theirs, rtol=0, atol=2e-5)


@torch.inference_mode()
def test_logits(run: Run, name: str, expected: dict[str, torch.Tensor]) -> None:
    behind = expected[f"{name}.logits_after_video"]
    ours = run.network(**run.fed(), logits_to_keep=len(behind)).logits[0]
    torch.testing.assert_close(ours, behind, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(ours[-1], expected[f"{name}.logits_last_position"], rtol=0, atol=TOLERANCE)


def test_greedy_tokens(run: Run, name: str, cases: dict[str, Any]) -> None:
    tokenizer = run.answerer.processor.tokenizer
    [answer] = answered(run.answerer, [run.request])
    assert answer.text == tokenizer.decode(cases[name]["greedy_plain"], skip_special_tokens=True)
    assert answer.cost.prompt_tokens == cases[name]["sequence_length"]


def test_the_other_model_type_and_attention(
    folder: Path, tmp_path: Path, cases: dict[str, Any], expected: dict[str, torch.Tensor]
) -> None:
    """The hub's ``llava`` for the fixture's ``llava_qwen``, and the kernels that a user gets."""
    shutil.copytree(folder / "checkpoint", tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "config.json").unlink()
    shutil.copyfile(folder / "config.model_type-llava.json", tmp_path / "checkpoint" / "config.json")
    sdpa = "answerer.checkpoint.attention=sdpa"
    ours = Run(tmp_path / "checkpoint", folder, cases[BILINEAR], sdpa).logits()
    torch.testing.assert_close(ours, expected[f"{BILINEAR}.logits_last_position"], rtol=0, atol=TOLERANCE)


# --- and what it would take to be wrong -------------------------------------------------------------------------------


def one_layer_less(model: Any) -> None:
    model.model.vision_tower.encoder.layers = model.model.vision_tower.encoder.layers[:-1]


def norm_behind_the_tower(model: Any) -> None:
    tower = model.model.vision_tower
    encode = tower.encoder.forward

    def forward(**given: Any) -> Any:
        output = encode(**given)
        output.last_hidden_state = tower.post_layernorm(output.last_hidden_state)
        return output

    tower.encoder.forward = forward


def rows_changed(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], None]:
    """The tokens of each frame, ``[frames, 14, 15, hidden]``, otherwise."""

    def apply(model: Any) -> None:
        inner = model.model
        stock = inner.frame_tokens
        inner.frame_tokens = lambda pixels: change(stock(pixels).unflatten(1, (14, 15))).flatten(1, 2)

    return apply


def no_newline_but_the_last(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows[:, :, :-1], rows[:, :, -1:] * (torch.arange(14) == 13)[None, :, None, None]], dim=2)


def norms_swapped(model: Any) -> None:
    for layer in model.model.vision_tower.encoder.layers:
        layer.layer_norm1, layer.layer_norm2 = layer.layer_norm2, layer.layer_norm1


def with_activation(activation: nn.Module) -> Callable[[Any], None]:
    def apply(model: Any) -> None:
        model.model.multi_modal_projector.act = activation

    return apply


def epsilon(value: float) -> Callable[[Any], None]:
    def apply(model: Any) -> None:
        for module in model.model.vision_tower.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = value

    return apply


CHANGES: dict[str, Callable[[Any], None]] = {
    "the layer before": one_layer_less,
    "the norm behind the tower": norm_behind_the_tower,
    "newline before each row": rows_changed(lambda rows: rows.roll(1, dims=2)),
    "one newline a frame": rows_changed(no_newline_but_the_last),
    "columns for rows": rows_changed(
        lambda rows: torch.cat([rows[:, :, :-1].transpose(1, 2), rows[:, :, -1:]], dim=2),
    ),
    "norms of the tower swapped": norms_swapped,
    "tanh GELU in the projector": with_activation(nn.GELU(approximate="tanh")),
    "epsilon of the tower": epsilon(1e-5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_mistake_would_show(
    folder: Path, expected: dict[str, torch.Tensor], cases: dict[str, Any], change: str
) -> None:
    wrong = Run(folder / "checkpoint", folder, cases[BILINEAR])
    CHANGES[change](wrong.network)
    off = float((wrong.logits() - expected[f"{BILINEAR}.logits_last_position"]).abs().max())
    print(f"{change}: {off:.1e} off")  # shown by pytest -s
    assert off > TOLERANCE


@pytest.mark.parametrize(
    "mistake", ["answerer.pooling=average", "answerer.time_instruction=selected", "answerer.time_instruction=none"]
)
def test_each_setting_matters(
    folder: Path, expected: dict[str, torch.Tensor], cases: dict[str, Any], mistake: str
) -> None:
    wrong = Run(folder / "checkpoint", folder, cases[BILINEAR], mistake).logits()
    assert (wrong - expected[f"{BILINEAR}.logits_last_position"]).abs().max() > 0.1


@pytest.mark.parametrize("mode", ["nearest", "bicubic"])
def test_another_interpolation_would_show(
    folder: Path, expected: dict[str, torch.Tensor], cases: dict[str, Any], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        llava_video._POOL, "bilinear", lambda maps: nn.functional.interpolate(maps, size=[14, 14], mode=mode)
    )
    wrong = Run(folder / "checkpoint", folder, cases[BILINEAR]).logits()
    assert (wrong - expected[f"{BILINEAR}.logits_last_position"]).abs().max() > TOLERANCE


@pytest.mark.parametrize("rule", range(4))
def test_no_rule_of_the_key_map_can_go(
    folder: Path, cases: dict[str, Any], rule: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.conversion_mapping import (
        get_checkpoint_conversion_mapping,
        register_checkpoint_conversion_mapping,
    )

    name = llava_video.LlavaVideoForConditionalGeneration.__name__
    rules = get_checkpoint_conversion_mapping(name)
    assert len(rules) == 4
    register_checkpoint_conversion_mapping(name, [*rules[:rule], *rules[rule + 1 :]], overwrite=True)
    try:
        with pytest.raises(CheckpointError, match=r"missing .*unexpected"):
            _ = Run(folder / "checkpoint", folder, cases[BILINEAR]).network
    finally:
        register_checkpoint_conversion_mapping(name, rules, overwrite=True)
