"""VILA-1.5 beside what its authors' code computed, in float32 on a CPU.

The numbers are of a tiny random checkpoint in the authors' layout and lie outside of this repository: GENS_FIXTURES
names the folder that holds ``vila15-tiny``. The tests here skip where it is not set.
"""

from __future__ import annotations

import dataclasses
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

from pipeline.answerers import AnswerRequest
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Frame, Question, Status, Video
from pipeline.families.vila.answerer import Vila
from pipeline.families.vila.processor import IMAGE_ID
from pipeline.families.vila.tokenizer import CONVERSATIONS, VilaTokens

TOLERANCE = 1e-4
"""On the logits of the last prompt position."""
NEW_TOKENS = 16
CASES = ("a_4f_640x360", "b_7f_320x480")
TOWER_FRAME = 196


@pytest.fixture(scope="module")
def folder() -> Path:
    root = os.environ.get("GENS_FIXTURES")
    if root is None:
        pytest.skip("GENS_FIXTURES does not name the folder with the numbers of the authors' code")
    return Path(root) / "vila15-tiny"


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "expected.json").read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "expected.safetensors")


def answerer_of(source: Path, *overrides: str) -> Vila:
    """``answerer=vila15_3b`` as the command line makes it, in the authors' form."""
    register_resolvers()
    on_cpu = (f"{key}={value}" for key, value in (("device", "cpu"), ("dtype", "float32"), ("source", source)))
    given = [f"answerer.checkpoint.{override}" for override in on_cpu]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(
            "ask",
            ["answerer=vila15_3b", "answerer.form=video", f"answerer.max_new_tokens={NEW_TOKENS}", *given, *overrides],
        )
    answerer = build(config.answerer, "answerer")
    assert isinstance(answerer, Vila)
    return answerer


@pytest.fixture(scope="module")
def answerer(folder: Path) -> Vila:
    return answerer_of(folder / "checkpoint")


class Run:
    """One case through the answerer's own processor and model."""

    def __init__(self, answerer: Vila, folder: Path, told: Any, tensors: dict[str, torch.Tensor], name: str) -> None:
        self.answerer, self.told = answerer, told["cases"][name]
        self.tensors = {
            key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")
        }
        pictures = [np.asarray(Image.open(folder / file).convert("RGB")) for file in self.told["frames"]]
        frames = tuple(Frame(7.5 * place**2, place, pixels) for place, pixels in enumerate(pictures))
        height, width = pictures[0].shape[:2]
        video = Video("clip.mp4", "0f", 600.0, 10.0, 6000, width, height)
        self.request = AnswerRequest(Question(name, "clip.mp4", self.told["question"]), video, frames)

    @property
    def network(self) -> Any:
        return self.answerer.model.network

    @torch.inference_mode()
    def embeddings(self) -> torch.Tensor:
        prompt = self.answerer.encode(self.request)
        return self.answerer.model.arguments(prompt, prompt.tokens)["inputs_embeds"]

    def pixels(self) -> torch.Tensor:
        """As the vision tower takes them."""
        seen: list[torch.Tensor] = []
        tower = self.network.vision_tower
        hook = tower.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        self.embeddings()
        hook.remove()
        [pixels] = seen
        return pixels

    @torch.inference_mode()
    def logits(self) -> torch.Tensor:
        """Of the whole prompt, in one pass."""
        logits: torch.Tensor = self.network.llm(inputs_embeds=self.embeddings()).logits[0]
        return logits

    def off(self) -> float:
        return float((self.logits()[-1] - self.tensors["logits_last_position"]).abs().max())


@pytest.fixture(params=CASES)
def run(
    request: pytest.FixtureRequest,
    answerer: Vila,
    folder: Path,
    told: dict[str, Any],
    tensors: dict[str, torch.Tensor],
) -> Run:
    return Run(answerer, folder, told, tensors, request.param)


def test_ids(run: Run) -> None:
    """Theirs hold one mark a frame, ours as many as the frame has tokens."""
    ours = run.answerer.encode(run.request).input_ids.tolist()
    theirs = [copy for token in run.told["input_ids"] for copy in [token] * (TOWER_FRAME if token == IMAGE_ID else 1)]
    assert ours == theirs
    assert len(ours) == run.told["sequence_length"]


def test_pixels(run: Run) -> None:
    pixels = run.pixels()
    assert hashlib.sha256(pixels.numpy().astype("<f4").tobytes()).hexdigest() == run.told["pixel_values"]["sha256_f32"]
    assert torch.equal(pixels[:, :, ::16, ::16], run.tensors["pixel_values_strided16"])


@torch.inference_mode()
def test_each_stage_of_a_frame(run: Run) -> None:
    pixels = run.pixels()
    patches = run.network.patches(pixels)
    down = run.network.mm_projector.layers[0](patches)
    projected = run.network.features(pixels)
    kept = projected if len(run.tensors["projected"]) == len(projected) else projected[[0, -1]]
    for found, wanted in (
        (patches[0], "vision_features_frame0"),
        (patches[-1, :40], "vision_features_last_frame_rows_0_40"),
        (down[0], "downsampled_frame0"),
        (kept, "projected"),
    ):
        torch.testing.assert_close(found, run.tensors[wanted], rtol=0, atol=TOLERANCE)
    for found, name in ((patches, "vision_features"), (down, "downsampled"), (projected, "projected")):
        assert list(found.shape) == run.told[name]["shape"]
        assert float(found.double().abs().sum()) == pytest.approx(run.told[name]["abs_sum"], rel=1e-6)


def test_logits(run: Run) -> None:
    torch.testing.assert_close(run.logits()[-64:], run.tensors["logits_last_64"], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(run.embeddings()[0, -64:], run.tensors["inputs_embeds_last_64"], rtol=0, atol=TOLERANCE)
    print(f"{run.request.question.id}: {run.off():.1e} off")  # shown by pytest -s
    assert run.off() <= TOLERANCE


@torch.inference_mode()
def test_greedy_tokens(run: Run) -> None:
    """By transformers' own ``generate``; and as ``answer`` runs the model, in one batch with a shorter request."""
    ends = run.answerer.processor.tokenizer.eos_token_id
    given = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "eos_token_id": ends}
    assert run.network.llm.generate(inputs_embeds=run.embeddings(), **given)[0].tolist() == run.told["greedy"]
    one = dataclasses.replace(run.request, frames=run.request.frames[:1])
    written = answered(run.answerer, [run.request, one])[0]
    assert written.text.strip() == run.told["greedy_text"].strip()
    assert written.cost.output_tokens == NEW_TOKENS


def test_the_answer_and_its_record(run: Run) -> None:
    [answer] = answered(run.answerer, [run.request])
    assert answer.status is Status.OK
    assert answer.text.strip() == run.told["greedy_text"].strip()
    assert answer.form == "video of 384 x 384 pixels in vicuna_v1; time: not told: a video's frames in their order"
    assert answer.cost.prompt_tokens == run.told["sequence_length"]


@pytest.mark.parametrize("name", ["vicuna_v1", "llama_3", "hermes-2"])
def test_prompts(answerer: Vila, told: dict[str, Any], name: str) -> None:
    case = told["cases"][CASES[0]]
    turn = "<image>\n" * len(case["frames"]) + case["question"]
    assert CONVERSATIONS[name].prompt(turn) == told["prompt_strings"][name]


def test_ids_of_llama_3(folder: Path, told: dict[str, Any]) -> None:
    """Two tokens of beginning: the prompt has one and the tokenizer puts another before it."""
    expected = told["llama3_like_tokenizer"]
    tokens = VilaTokens.open(folder / expected["folder"], "auto", yi=False)
    assert tokens.conversation.name == "llama_3"
    assert tokens.source.decode([tokens.eos_token_id]) == ""
    case = told["cases"][CASES[0]]
    turn = "<image>\n" * len(case["frames"]) + case["question"]
    assert tokens.ids(turn, [IMAGE_ID]) == expected["input_ids"]


@pytest.fixture
def altered(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """The checkpoint with other values in its ``config.json``."""

    def write(**changes: Any) -> Path:
        shutil.copytree(folder / "checkpoint", tmp_path / "altered")
        path = tmp_path / "altered" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return path.parent

    return write


def test_another_layer_would_show(
    altered: Callable[..., Path], folder: Path, told: Any, tensors: dict[str, torch.Tensor]
) -> None:
    for_one_higher = answerer_of(altered(mm_vision_select_layer=-1))
    wrong = Run(for_one_higher, folder, told, tensors, CASES[0]).off()
    print(f"layer: {wrong:.1e} off")
    assert wrong > 100 * TOLERANCE


def row_major(patches: torch.Tensor) -> torch.Tensor:
    grid = torch.nn.functional.pad(patches.view(-1, 27, 27, 48), (0, 0, 0, 1, 0, 1))
    return grid.view(-1, 14, 2, 14, 2, 48).permute(0, 1, 3, 2, 4, 5).reshape(-1, 196, 192)


def padded_in_front(patches: torch.Tensor) -> torch.Tensor:
    grid = torch.nn.functional.pad(patches.view(-1, 27, 27, 48), (0, 0, 1, 0, 1, 0))
    return grid.view(-1, 14, 2, 14, 2, 48).permute(0, 3, 1, 2, 4, 5).reshape(-1, 196, 192)


def last_repeated(patches: torch.Tensor) -> torch.Tensor:
    grid = patches.view(-1, 27, 27, 48)
    grid = torch.cat([grid, grid[:, -1:]], dim=1)
    grid = torch.cat([grid, grid[:, :, -1:]], dim=2)
    return grid.view(-1, 14, 2, 14, 2, 48).permute(0, 3, 1, 2, 4, 5).reshape(-1, 196, 192)


@pytest.mark.parametrize("mistake", [row_major, padded_in_front, last_repeated])
def test_another_order_of_tokens_would_show(
    answerer: Vila,
    folder: Path,
    told: Any,
    tensors: dict[str, torch.Tensor],
    mistake: Callable[[torch.Tensor], torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(answerer, folder, told, tensors, CASES[0])
    monkeypatch.setattr(run.network.mm_projector.layers[0], "forward", mistake)
    wrong = run.off()
    print(f"{mistake.__name__}: {wrong:.1e} off")
    assert wrong > 100 * TOLERANCE
