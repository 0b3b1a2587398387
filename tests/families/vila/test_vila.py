"""VILA-1.5 on tiny random checkpoints in the authors' layout: answers are noise, the way to them is real."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from asking import answered, request_of
from safetensors.torch import load_file, save_file
from tiny_vila import CONTEXT, LAYERS, Kind, intern_vit_patches, write_vila
from wordings import wording

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.domain import Status
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import FrameLabels
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.seam import Words
from pipeline.families.vila.answerer import Vila
from pipeline.families.vila.processor import IMAGE_ID, read_config
from pipeline.families.vila.tokenizer import SlowLlama

pytestmark = pytest.mark.moving

KINDS = get_args(Kind)
CONVERSATION = {"3b": "vicuna_v1", "8b": "llama_3", "40b": "hermes-2"}
PROMPT = wording()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_vila(tmp_path_factory.mktemp(f"vila-{kind}"), kind) for kind in KINDS}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def answerer(folder: Path, **changes: Any) -> Vila:
    checkpoint = Checkpoint(str(folder), None, "float32", "sdpa", "cpu")
    made = Vila("vila", checkpoint, "images", FrameLabels("{time:.1f}s: ", "\n"), "auto", PROMPT, 6)
    return dataclasses.replace(made, **changes)


def fed(answerer: Vila, asked: AnswerRequest) -> torch.Tensor:
    """The input embeddings that the Llama gets for the whole prompt."""
    prompt = answerer.encode(asked)
    return answerer.model.arguments(prompt, prompt.tokens)["inputs_embeds"]


def pixels_of(answerer: Vila, asked: AnswerRequest) -> torch.Tensor:
    """The frames as the vision tower takes them."""
    seen: list[torch.Tensor] = []
    hook = answerer.model.network.vision_tower.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        fed(answerer, asked)
    hook.remove()
    [pixels] = seen
    return pixels


def test_a_batch_answers_as_its_requests_do_alone(folders: dict[str, Path], kind: str) -> None:
    ours = answerer(folders[kind])
    assert isinstance(ours, Answerer)
    requests = [request_of(3), request_of(1), request_of(3, "Why?", None), request_of(2, "What happens first?")]
    together = answered(ours, requests)
    assert [a.text for a in together] == [answered(ours, [asked])[0].text for asked in requests]
    assert len({a.text for a in together}) == 4  # what the model sees matters
    assert [len(a.frame_times) for a in together] == [3, 1, 3, 2]
    for asked, answer in zip(requests, together, strict=True):
        assert answer.cost.prompt_tokens == ours.encode(asked).tokens
        assert answer.form == (
            f"images of 70 x 70 pixels in {CONVERSATION[kind]}; time: text before each image: '12.5s: '"
        )


def test_the_answer_is_what_the_parts_say_step_by_step(folders: dict[str, Path], kind: str) -> None:
    """Without ``generate``, caches and padding: embed, run, take the best, append."""
    ours, asked = answerer(folders[kind]), request_of(3)
    network, prompt = ours.model.network, ours.encode(asked)
    assert (prompt.input_ids == IMAGE_ID).sum() == 3 * 9
    written: list[int] = []
    with torch.inference_mode():
        embedded = fed(ours, asked)
        features = network.features(pixels_of(ours, asked)).flatten(0, 1)
        assert torch.equal(embedded[0][torch.from_numpy(prompt.input_ids == IMAGE_ID)], features)
        for _ in range(6):
            token = int(network.llm(inputs_embeds=embedded).logits[0, -1].argmax())
            written.append(token)
            embedded = torch.cat([embedded, network.llm.get_input_embeddings()(torch.tensor([[token]]))], dim=1)
    assert answered(ours, [asked])[0].text == ours.processor.tokenizer.decode(written)


def test_intern_vit_is_that_of_its_authors(folders: dict[str, Path]) -> None:
    ours = answerer(folders["40b"])
    pixels = pixels_of(ours, request_of(2))
    stored = load_file(folders["40b"] / "vision_tower" / "model.safetensors")
    expected = intern_vit_patches({name: tensor.float() for name, tensor in stored.items()}, pixels)
    with torch.inference_mode():
        found = ours.model.network.patches(pixels)
    assert found.shape == (2, 25, 24)  # without the class token
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    white = dataclasses.replace(request_of(1).frames[0], pixels=np.full((30, 60, 3), 255, np.uint8))
    shown = pixels_of(ours, dataclasses.replace(request_of(1), frames=(white,)))
    assert shown[0, :, 0, 0].tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


def test_an_even_grid_is_not_padded(tmp_path: Path) -> None:
    ours = answerer(write_vila(tmp_path, "40b", image_size=56))
    assert (ours.encode(request_of(2)).input_ids == IMAGE_ID).sum() == 2 * 4
    assert answered(ours, [request_of(2)])[0].cost.output_tokens > 0


@pytest.mark.parametrize("kind", ["3b", "40b"])
@pytest.mark.parametrize("part", ["llm", "vision_tower", "mm_projector"])
@pytest.mark.parametrize("fault", ["missing", "unexpected", "of another shape"])
def test_parts_that_do_not_match_end_the_load(
    folders: dict[str, Path], tmp_path: Path, kind: str, part: str, fault: str
) -> None:
    shutil.copytree(folders[kind], tmp_path / "copy")
    file = sorted((tmp_path / "copy" / part).glob("*.safetensors"))[0]
    tensors = load_file(file)
    name = next(name for name in tensors if "norm1.weight" in name or "lm_head" in name or "layers.2.weight" in name)
    tensor = tensors.pop(name)
    if fault == "unexpected":
        tensors |= {name: tensor, f"{name}_more": tensor.clone()}
    elif fault == "of another shape":
        tensors[name] = tensor[:-1].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"1 {fault}") as error:
        answered(answerer(tmp_path / "copy"), [request_of(1)])
    assert part in error.value.problem


@pytest.mark.parametrize("part", ["llm", "vision_tower", "mm_projector"])
def test_a_part_that_is_not_there(folders: dict[str, Path], tmp_path: Path, part: str) -> None:
    shutil.copytree(folders["40b"], tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / part)
    with pytest.raises(CheckpointError, match=part):
        answered(answerer(tmp_path / "copy"), [request_of(1)])


def test_a_tower_of_another_size_than_announced(folders: dict[str, Path], tmp_path: Path) -> None:
    small = write_vila(tmp_path, "40b", image_size=56)
    shutil.copyfile(folders["40b"] / "config.json", small / "config.json")
    with pytest.raises(CheckpointError, match="4 x 4 patches"):
        answered(answerer(small), [request_of(1)])


def test_too_many_frames_are_refused_with_the_number_that_fits(folders: dict[str, Path], kind: str) -> None:
    ours = answerer(folders[kind])
    many = request_of(100)
    [refused] = answered(ours, [many])
    assert refused.status is Status.CONTEXT_EXCEEDED
    assert f"more than the {CONTEXT} of the model's context" in refused.detail
    assert refused.cost.prompt_tokens == ours.encode(many).tokens  # nothing was cut
    fitting = int(refused.detail.partition("selection.budget=")[2].split(",")[0])
    assert 0 < fitting <= (ours.limits().max_frames or 0) < 100
    [fits] = answered(ours, [dataclasses.replace(many, frames=many.frames[-fitting:])])
    assert fits.cost.prompt_tokens + 6 <= CONTEXT
    assert len(fits.frame_times) == fitting
    [one_more] = answered(ours, [dataclasses.replace(many, frames=many.frames[-fitting - 1 :])])
    assert one_more.status is Status.CONTEXT_EXCEEDED


def test_limits_and_identity(folders: dict[str, Path], kind: str) -> None:
    ours = answerer(folders[kind])
    told, as_authors = ours.limits(), dataclasses.replace(ours, form="video").limits()
    assert told.context_tokens == CONTEXT  # not the positions of the language model
    assert told.max_frames == (CONTEXT - 6) // 9
    more = ours.encode(request_of(3)).tokens - ours.encode(request_of(2)).tokens
    assert 9 < more <= told.tokens_per_frame
    assert as_authors.time_told == "not told: a video's frames in their order"
    identities = {
        json.dumps(one.identity(), sort_keys=True)
        for one in (ours, dataclasses.replace(ours, form="video"), dataclasses.replace(ours, max_new_tokens=7))
    }
    assert len(identities) == 3


def test_times_are_told_or_not(folders: dict[str, Path], kind: str) -> None:
    ours = answerer(folders[kind])

    def said(form: str) -> str:
        processor = dataclasses.replace(ours, form=form).processor
        shown = request_of(2).frames
        ids = processor.prompt(processor.prepared(shown), shown, Words("Why?")).input_ids
        return processor.tokenizer.decode([token for token in ids.tolist() if token != IMAGE_ID])

    assert "0.0s:" in said("images")
    assert "1.2s:" in said("images")
    assert "s:" not in said("video").replace("USER:", "").replace("questions.", "")


def test_the_turn_ends_where_the_conversation_says(folders: dict[str, Path], kind: str) -> None:
    """Also where ``generation_config.json`` names another token, as Yi's and Llama 3's do."""
    ours = answerer(folders[kind])
    stop = {"3b": "</s>", "8b": "<|eot_id|>", "40b": "<|im_end|>"}[kind]
    end = ours.processor.tokenizer.source.vocabulary[stop]
    head = ours.model.language.lm_head
    hook = head.register_forward_hook(lambda *call: call[2].index_fill(-1, torch.tensor([end]), 1e6))
    [answer] = answered(ours, [request_of(2)])
    hook.remove()
    assert answer.status is Status.EMPTY_ANSWER
    assert answer.cost.output_tokens == 0


@pytest.mark.parametrize("text", ["What is <image>?", "Is it <|im_end|>?"])
def test_markers_in_a_question_are_refused(folders: dict[str, Path], text: str) -> None:
    [answer] = answered(answerer(folders["40b"]), [request_of(1, text)])
    assert answer.status is Status.INVALID_QUESTION


def test_a_conversation_that_the_tokenizer_does_not_know(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"needs <\|im_end\|>") as error:
        answered(answerer(folders["3b"], conversation="hermes-2"), [request_of(1)])
    assert "answerer.conversation=auto" in error.value.remedy
    asked = answerer(folders["40b"], conversation="hermes-2")
    assert answered(asked, [request_of(1)])[0].text == answered(answerer(folders["40b"]), [request_of(1)])[0].text


@pytest.fixture
def altered(folders: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    def write(kind: str, **changes: Any) -> Path:
        shutil.copytree(folders[kind], tmp_path / "altered")
        path = tmp_path / "altered" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return path.parent

    return write


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "qwen2_vl"},
        {"s2": True},
        {"image_aspect_ratio": "dynamic"},
        {"mm_use_im_start_end": True},
        {"mm_vision_select_feature": "patch"},
        {"mm_vision_select_layer": -9},
        {"vision_resolution": 448},
        {"mm_projector_cfg": {"mm_projector_type": "mlp_downsample_3x3_fix"}},
    ],
    ids=str,
)
def test_a_model_that_is_put_together_otherwise(altered: Callable[..., Path], changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"VILA-1\.5") as error:
        answerer(altered("3b", **changes)).limits()
    assert "answerer.checkpoint.source=" in error.value.remedy


def test_the_layer_is_the_configs(altered: Callable[..., Path], folders: dict[str, Path]) -> None:
    changed, stock = answerer(altered("3b", mm_vision_select_layer=-3)), answerer(folders["3b"])
    assert (changed._config.layer, stock._config.layer) == (LAYERS - 2, LAYERS - 1)
    pixels = pixels_of(stock, request_of(1))
    with torch.inference_mode():
        states = stock.model.network.vision_tower(pixels, output_hidden_states=True).hidden_states
        assert torch.equal(changed.model.network.patches(pixels), states[-3])
        assert torch.equal(stock.model.network.patches(pixels), states[-2])


def test_pieces_behind_markers(folders: dict[str, Path], tmp_path: Path) -> None:
    """A word begins behind a marker only where the tokenizer's settings are the old ones."""
    shutil.copytree(folders["40b"] / "llm", tmp_path / "llm")
    path = tmp_path / "llm" / "tokenizer_config.json"
    settings = json.loads(path.read_text())

    def pieces(text: str, by_default: bool = False, **changes: Any) -> list[str]:
        path.write_text(json.dumps({key: value for key, value in {**settings, **changes}.items() if value is not None}))
        tokenizer = SlowLlama(path.parent, legacy_by_default=by_default)
        names = {token: name for name, token in tokenizer.vocabulary.items()}
        return [names[token] for token in tokenizer.encode(text)]

    assert pieces("<|im_end|>user", legacy=True)[:2] == ["<|im_end|>", "▁user"]
    assert not pieces("<|im_end|>user", legacy=False)[1].startswith("▁")
    assert pieces("<|im_end|>user", by_default=True, legacy=None)[1] == "▁user"
    assert not pieces("<|im_end|>user", by_default=False, legacy=None)[1].startswith("▁")
    # The end of a turn has a role in the settings; its beginning only if they list it.
    assert pieces("<|im_start|>user", legacy=False)[:2] == ["▁", "<|im_start|>"]
    listed = pieces("<|im_start|>user", legacy=False, additional_special_tokens=["<|im_start|>"])
    assert listed[0] == "<|im_start|>"
    assert pieces("user", legacy=False) == pieces("user", legacy=True) == ["▁user"]
    assert pieces("\n", legacy=False) == pieces("\n", legacy=True) == ["▁", "<0x0A>"]
    assert pieces("", add_bos_token=True) == ["<|startoftext|>"]
    assert pieces("<|im_end|> user", legacy=False)[1].startswith("▁")


def test_yi_is_known_by_its_size(altered: Callable[..., Path], folders: dict[str, Path]) -> None:
    config = json.loads((folders["40b"] / "config.json").read_text())["llm_cfg"]
    yi = altered("40b", llm_cfg={**config, "num_hidden_layers": 60, "num_attention_heads": 56})
    assert read_config(Checkpoint(str(yi), None, "auto", "auto", "cpu")).yi
    assert not answerer(folders["40b"])._config.yi


def test_closed_and_asked_again(folders: dict[str, Path]) -> None:
    ours = answerer(folders["40b"])
    [before] = answered(ours, [request_of(2)])
    network = ours.model.network
    ours.close()
    assert sum(parameter.numel() for parameter in network.parameters()) == 0
    assert answered(ours, [request_of(2)])[0].text == before.text


def test_construction_and_limits_import_no_torch(folders: dict[str, Path]) -> None:
    code = (
        "import sys\n"
        "from pipeline.families.vila.answerer import Vila\n"
        "from pipeline.families.chat import FrameLabels\n"
        "from pipeline.families.loading.checkpoint import Checkpoint\n"
        f"checkpoint = Checkpoint({str(folders['40b'])!r}, None, 'auto', 'auto', 'auto')\n"
        "import pickle\n"
        f"prompt = pickle.loads({pickle.dumps(PROMPT)!r})\n"
        "vila = Vila('v', checkpoint, 'images', FrameLabels('', ''), 'auto', prompt, 4)\n"
        "vila.limits(), vila.identity()\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
