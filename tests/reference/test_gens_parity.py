"""GenS beside what its authors' code computed, in float32 on a CPU.

The numbers are of a tiny random checkpoint in the authors' layout and lie outside of this repository: GENS_FIXTURES
names the folder that holds ``gens-yivl-tiny-a``. The tests here skip where it is not set.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from safetensors.torch import load_file

from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question
from pipeline.families.aria.model import AriaModel, position_rows
from pipeline.families.seam import PreparedFrame
from pipeline.samplers.backbone import Backbone
from pipeline.samplers.gens import GensSampler
from pipeline.video import Reader

TOLERANCE = 5e-5
"""On the logits of the last prompt position; the authors' own code varies by 1.3e-5 with threads and kernels."""
NEW_TOKENS = 16
CASES = ("synth", "real")


@pytest.fixture(scope="module")
def folder() -> Path:
    root = os.environ.get("GENS_FIXTURES")
    if root is None:
        pytest.skip("GENS_FIXTURES does not name the folder with the numbers of the authors' code")
    return Path(root) / "gens-yivl-tiny-a"


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "expected.safetensors")


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "expected.json").read_text())["cases"]
    assert isinstance(found, dict)
    return found


def sampler_of(source: Path, *overrides: str) -> GensSampler:
    """``sampler=gens`` as the command line makes it, with the authors' prompt and none of ours."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("sample", ["sampler=gens", f"sampler.checkpoint.source={source}", *overrides])
    sampler = build(config.sampler, "sampler")
    assert isinstance(sampler, GensSampler)
    return sampler


ON_CPU = ("sampler.checkpoint.device=cpu", "sampler.checkpoint.dtype=float32", "sampler.checkpoint.attention=eager")


@pytest.fixture(scope="module")
def flipped(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights with the other ``norm_topk_prob``."""
    copy = tmp_path_factory.mktemp("flipped")
    for file in folder.iterdir():
        if file.suffix in (".json", ".model") or file.name == "model.safetensors":
            shutil.copyfile(file, copy / file.name)
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["norm_topk_prob"] = not config["text_config"]["norm_topk_prob"]
    (copy / "config.json").write_text(json.dumps(config))
    return copy


class Run:
    """One case through the sampler's own processor and model."""

    def __init__(
        self,
        folder: Path,
        expected: dict[str, torch.Tensor],
        case: Any,
        name: str,
        *overrides: str,
        source: Path | None = None,
    ) -> None:
        sampler = sampler_of(source or folder, *ON_CPU, *overrides)
        opened = sampler.frame.opened(sampler.checkpoint)
        self.processor, self.prompt = opened.processor, sampler.prompt
        self.backbone = Backbone(opened, sampler.prompt, sampler.checkpoint.source, sampler.frame.smaller)
        self.prepare = self.backbone.prepare
        self.question = case["question"]
        self.expected = {key.removeprefix(f"{name}."): value for key, value in expected.items() if key.startswith(name)}
        self.frames = (
            [np.asarray(Image.open(folder / frame["file"]).convert("RGB")) for frame in case["frames"]]
            if "file" in case["frames"][0]
            else None
        )

    @property
    def network(self) -> Any:
        return self.backbone.model.network

    def prepared(self) -> list[PreparedFrame]:
        """The frames; without their pixels where these are not ours to keep."""
        if self.frames is None:
            nothing = PreparedFrame(np.zeros((0, 0, 3), np.uint8), self.processor.shape(490, 490))
            return [nothing] * len(self.expected["projector_out"])
        return [self.prepare(frame) for frame in self.frames]

    def halves(self) -> tuple[list[int], list[int]]:
        """The prompt's tokens up to the last frame, and behind it."""
        shapes = [frame.shape for frame in self.prepared()]
        return self.processor.halves(self.prompt.turn(len(shapes), self.question), shapes)

    def features(self) -> list[torch.Tensor]:
        """From the pixels, or the authors' where the frames are not ours to keep."""
        if self.frames is None:
            return list(self.expected["projector_out"])
        return self.backbone.features(self.prepared())

    @torch.inference_mode()
    def logits(self) -> torch.Tensor:
        """Of the last position of the whole prompt, in one pass."""
        head, tail = self.halves()
        ids = torch.tensor([[*head, *tail]])
        embeddings = self.network.get_input_embeddings()(ids)
        embeddings[ids == 9] = torch.cat(self.features())
        logits: torch.Tensor = self.network(inputs_embeds=embeddings, logits_to_keep=1).logits[0, -1]
        return logits

    def greedy(self) -> list[int]:
        """Through the shared prefix, as the sampler runs."""
        prefix = self.backbone.prefix(self.features(), self.prepared())
        rows = self.backbone.rows(NEW_TOKENS)
        rows.add(prefix, {0: self.backbone.suffix(self.question)})
        while not (finished := rows.step()):
            pass
        [(_, written)] = finished
        return list(written.tokens)

    def off(self, expected: str = "logits_last") -> float:
        return float((self.logits() - self.expected[expected]).abs().max())


@pytest.fixture(scope="module", params=CASES)
def run(request: pytest.FixtureRequest, folder: Path, expected: dict[str, torch.Tensor], cases: dict[str, Any]) -> Run:
    return Run(folder, expected, cases[request.param], request.param)


# --- equal ------------------------------------------------------------------------------------------------------------


def test_ids(run: Run) -> None:
    """Theirs hold one image token a frame, ours as many as the frame has features."""
    head, tail = run.halves()
    assert tail == run.backbone.suffix(run.question)
    ours = [*head, *tail]
    theirs = [copy for token in run.expected["input_ids"].tolist() for copy in [token] * (128 if token == 9 else 1)]
    assert ours == theirs
    assert [token == 9 for token in ours] == run.expected["merged_image_mask"].bool().tolist()


def test_pixels(folder: Path, cases: dict[str, Any], expected: dict[str, torch.Tensor]) -> None:
    run = Run(folder, expected, cases["synth"], "synth")
    shown = run.prepared()
    sizes = [list(frame.pixels.shape[1::-1]) for frame in shown]
    assert sizes == [frame["size_before_padding_wh"] for frame in cases["synth"]["frames"]]
    model = run.backbone.model
    assert isinstance(model, AriaModel)
    pixels, _ = model.on_canvas(shown)
    digest = hashlib.sha256(pixels.numpy().astype("<f4").tobytes()).hexdigest()
    assert digest == cases["synth"]["pixel_values"]["sha256_f32le"]
    assert torch.equal(pixels[:, :, ::35, ::35], expected["synth.pixel_values_slice"])


def test_positions_of_patches(expected: dict[str, torch.Tensor]) -> None:
    assert position_rows(980) == expected["vision.position_ids"].tolist()


def test_features(run: Run) -> None:
    found = torch.stack(run.features())  # in chunks, whoever is beside whom
    torch.testing.assert_close(found, run.expected["projector_out"], rtol=0, atol=2e-5)


def routed(run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Chosen experts and their weights, ``[layers, tokens, experts]``, by falling weight."""
    found: list[Any] = []
    layers = run.network.model.language_model.layers
    hooks = [layer.mlp.router.register_forward_hook(lambda *call: found.append(call[2][1:])) for layer in layers]
    run.logits()
    for hook in hooks:
        hook.remove()
    weights, chosen = (torch.stack(part) for part in zip(*found, strict=True))
    weights, order = weights.sort(dim=-1, descending=True)
    return chosen.gather(-1, order), weights


def test_experts(run: Run) -> None:
    chosen, weights = routed(run)
    assert torch.equal(chosen.int(), run.expected["router_topk_idx"])
    torch.testing.assert_close(weights, run.expected["router_topk_weight"], rtol=0, atol=2e-5)


def test_logits(run: Run) -> None:
    assert run.off() <= TOLERANCE


def test_greedy_tokens(run: Run) -> None:
    assert run.greedy() == run.expected["greedy_tokens"].tolist()


@pytest.mark.parametrize("name", CASES)
def test_the_other_routing(
    folder: Path, flipped: Path, expected: dict[str, torch.Tensor], cases: dict[str, Any], name: str
) -> None:
    run = Run(folder, expected, cases[name], name, source=flipped)
    assert run.off("flip.logits_last") <= TOLERANCE
    _, weights = routed(run)
    torch.testing.assert_close(weights[0], run.expected["flip.router_topk_weight_layer0"], rtol=0, atol=2e-5)
    assert run.greedy() == run.expected["flip.greedy_tokens"].tolist()
    assert run.off() > 0.5  # as if the config said the opposite


def test_sdpa_and_grouped_experts(folder: Path, expected: dict[str, torch.Tensor], cases: dict[str, Any]) -> None:
    """The kernels that a user gets."""
    for name in CASES:
        assert Run(folder, expected, cases[name], name, "sampler.checkpoint.attention=sdpa").off() <= TOLERANCE


def test_from_a_video_to_the_authors_words(folder: Path, tmp_path: Path, cases: dict[str, Any]) -> None:
    """A folder of frames through ``sampler=gens``: reader, candidates, window, model."""
    for frame in cases["synth"]["frames"]:
        shutil.copyfile(folder / frame["file"], tmp_path / Path(frame["file"]).name)
    sampler = sampler_of(folder, *ON_CPU, f"sampler.max_new_tokens={NEW_TOKENS}")
    questions = [Question("a", str(tmp_path), cases["synth"]["question"]), Question("b", str(tmp_path), "When?")]
    with Reader("reader", "auto", 1, 1.0).open(tmp_path) as source:
        relevances = sampler.score(source.video, source, questions)
    [window] = relevances[0].windows
    assert window.raw.strip() == cases["synth"]["response_text"]
    assert relevances[0].times == (0.0, 1.0, 2.0)


# --- and what it would take to be wrong -------------------------------------------------------------------------------


def swap_gate_and_up(run: Run) -> Iterator[None]:
    layers = run.network.model.language_model.layers
    for _ in range(2):
        for layer in layers:
            experts = layer.mlp.experts
            gate, up = experts.gate_up_proj.data.chunk(2, dim=-1)
            experts.gate_up_proj.data = torch.cat([up, gate], dim=-1)
        yield


def with_theta(theta: float) -> Callable[[Run], Iterator[None]]:
    def change(run: Run) -> Iterator[None]:
        rotary = run.network.model.language_model.rotary_emb
        kept = rotary.inv_freq
        places = torch.arange(0, 2 * len(kept), 2) / (2 * len(kept))
        rotary.inv_freq = theta**-places
        yield
        rotary.inv_freq = kept
        yield

    return change


def vision_layer_before_the_last(run: Run) -> Iterator[None]:
    inner = run.network.model
    stock = inner.get_image_features
    inner.get_image_features = lambda pixels, **options: stock(pixels, vision_feature_layer=-2, **options)
    yield
    del inner.get_image_features
    yield


def masked(run: Run) -> Iterator[None]:
    kept = run.backbone.model
    run.backbone.model = AriaModel(kept.network, masks=True)
    yield
    run.backbone.model = kept
    yield


def one_resize(run: Run) -> Iterator[None]:
    kept = run.prepare

    def straight(pixels: Any) -> PreparedFrame:
        height, width = pixels.shape[:2]
        scale = 490 / max(height, width)
        size = [max(int(side * scale), 336) if side < max(height, width) else 490 for side in (width, height)]
        resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        return PreparedFrame(resized, kept(pixels).shape)

    run.prepare = straight
    yield
    run.prepare = kept
    yield


def epsilon(where: Callable[[Any], Any], value: float) -> Callable[[Run], Iterator[None]]:
    """All norms under a part of the model with another epsilon."""

    def change(run: Run) -> Iterator[None]:
        norms = [
            (module, name, getattr(module, name))
            for module in where(run.network.model).modules()
            for name in ("variance_epsilon", "eps")
            if isinstance(getattr(module, name, None), float)
        ]
        assert norms
        for module, name, _ in norms:
            setattr(module, name, value)
        yield
        for module, name, kept in norms:
            setattr(module, name, kept)
        yield

    return change


CHANGES: dict[str, Callable[[Run], Iterator[None]]] = {
    "up before gate": swap_gate_and_up,
    "rope theta of Llama": with_theta(10000.0),
    "the vision layer that the config names": vision_layer_before_the_last,
    "the pixel mask passed": masked,
    "one resize": one_resize,
    "epsilon of the language model": epsilon(lambda model: model.language_model, 1e-5),
    "epsilon of the vision tower": epsilon(lambda model: model.vision_tower, 1e-5),
    "epsilon of the projector": epsilon(lambda model: model.multi_modal_projector, 1e-6),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_mistake_would_show(
    folder: Path, expected: dict[str, torch.Tensor], cases: dict[str, Any], change: str
) -> None:
    run = Run(folder, expected, cases["synth"], "synth")
    steps = CHANGES[change](run)
    next(steps)
    wrong = run.off()
    next(steps)
    right = run.off()
    print(f"{change}: {wrong:.1e} off, {right:.1e} without")  # shown by pytest -s
    assert right <= TOLERANCE < wrong
