"""VILA-1.5 40B's kind (InternViT, Yi) from pixels to words, beside a plain second implementation, in float32 on a CPU.

The second one knows nothing of the first: it reads the tensors as they lie on disk, goes through the frames with loops
where the authors have reshapes (``flat_square`` in ``base_projector.py`` of github.com/NVlabs/VILA at commit ec7fb2c),
and feeds a stock Llama. The frames are 448 pixels wide as in the released model: 1024 patches, 256 tokens.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asking import answered
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_vila import WIDTH, intern_vit_patches, write_vila
from wordings import wording

from pipeline.answerers import AnswerRequest
from pipeline.domain import Frame, Question, Video
from pipeline.families.chat import FrameLabels
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.vila.answerer import Vila

pytestmark = pytest.mark.moving

NEW_TOKENS = 16
PARTS = ("llm", "vision_tower", "mm_projector")
RANDOM = np.random.default_rng(4)
FRAMES = tuple(
    Frame(7.5 * i * i, i, RANDOM.integers(0, 255, (*shape, 3), dtype=np.uint8))
    for i, shape in enumerate([(90, 160), (90, 160), (160, 90)])
)
REQUEST = AnswerRequest(
    Question("q", "clip.mp4", "Which colour is the box?", ("red", "blue")),
    Video("clip.mp4", "0f", 60.0, 10.0, 600, 160, 90),
    FRAMES,
)
TURN = (
    "<image>\n<image>\n<image>\nWhich colour is the box?\nA. red\nB. blue\n"
    "Answer with the option's letter from the given choices directly."
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vila(tmp_path_factory.mktemp("vila-40b"), "40b", image_size=448, context=4096)


def answerer(folder: Path) -> Vila:
    checkpoint = Checkpoint(str(folder), None, "float32", "sdpa", "cpu")
    words = wording("letter")
    return Vila("vila", checkpoint, "video", FrameLabels("", "\n"), "auto", words, NEW_TOKENS)


def stored(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        tensors |= load_file(file)
    return {name: tensor.float() for name, tensor in tensors.items()}


def ids_by_hand(folder: Path) -> list[list[int]]:
    """One list for each piece between frames. Yi's tokenizer begins no text with a token, and every text a word."""
    import sentencepiece

    pieces: Any = sentencepiece.SentencePieceProcessor(model_file=str(folder / "llm" / "tokenizer.model"))
    prompt = (
        f"<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n{TURN}<|im_end|><|im_start|>assistant\n"
    )
    found: list[list[int]] = []
    for piece in prompt.split("<image>"):
        ids: list[int] = []
        for text in re.split(r"(<\|im_start\|>|<\|im_end\|>)", piece):
            ids += [pieces.piece_to_id(text)] if text.startswith("<|") else pieces.encode(text) if text else []
        found.append(ids)
    return found


def pixels_by_hand() -> torch.Tensor:
    shown = []
    for frame in FRAMES:
        square = np.asarray(Image.fromarray(frame.pixels).resize((448, 448)), np.float32) / 255
        shown.append((square - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]))
    return torch.from_numpy(np.stack(shown).astype(np.float32)).permute(0, 3, 1, 2)


def down_sampled_by_hand(patches: torch.Tensor) -> torch.Tensor:
    """Two by two, going down the first two columns, then the next two."""
    rows: list[torch.Tensor] = []
    for frame in patches:
        grid = frame.view(32, 32, WIDTH)
        for column in range(0, 32, 2):
            for row in range(0, 32, 2):
                near = [grid[row, column], grid[row, column + 1], grid[row + 1, column], grid[row + 1, column + 1]]
                rows.append(torch.cat(near))
    return torch.stack(rows).view(len(patches), 256, 4 * WIDTH)


def projected_by_hand(folder: Path, squares: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import gelu, layer_norm, linear

    tensors = stored(folder / "mm_projector")
    first, second, third = ((tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in (1, 2, 4))
    return linear(gelu(linear(layer_norm(squares, (4 * WIDTH,), *first), *second)), *third)


@torch.inference_mode()
def by_hand(folder: Path) -> tuple[torch.Tensor, list[int]]:
    """The logits behind the prompt, and the tokens that follow it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    raw = json.loads((folder / "llm" / "config.json").read_text())
    sizes = {key: raw[key] for key in raw if key.startswith(("num_", "hidden_size", "intermediate", "vocab", "rms"))}
    rope = {"rope_type": "default", "rope_theta": raw["rope_theta"]}
    llm = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope, tie_word_embeddings=False)).eval()
    llm.load_state_dict(stored(folder / "llm"))
    patches = intern_vit_patches(stored(folder / "vision_tower"), pixels_by_hand())
    frames = projected_by_hand(folder, down_sampled_by_hand(patches))
    words = [llm.get_input_embeddings()(torch.tensor(ids, dtype=torch.long)) for ids in ids_by_hand(folder)]
    shown = [words[0]]
    for frame, after in zip(frames, words[1:], strict=True):
        shown += [frame, after]
    embedded = torch.cat(shown)[None]
    logits = llm(inputs_embeds=embedded).logits[0, -1]
    tokens: list[int] = []
    for _ in range(NEW_TOKENS):
        tokens.append(int(llm(inputs_embeds=embedded).logits[0, -1].argmax()))
        more = llm.get_input_embeddings()(torch.tensor([[tokens[-1]]]))
        embedded = torch.cat([embedded, more], dim=1)
    return logits, tokens


@pytest.fixture(scope="module")
def expected(folder: Path) -> tuple[torch.Tensor, list[int]]:
    return by_hand(folder)


@torch.inference_mode()
def test_pixels_logits_and_words(folder: Path, expected: tuple[torch.Tensor, list[int]]) -> None:
    ours = answerer(folder)
    prompt, network = ours.encode(REQUEST), ours.model.network
    shown: list[torch.Tensor] = []
    network.vision_tower.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    fed = ours.model.arguments(prompt, prompt.tokens)
    torch.testing.assert_close(shown[0], pixels_by_hand(), rtol=0, atol=1e-6)
    assert prompt.tokens == sum(len(ids) for ids in ids_by_hand(folder)) + 3 * 256
    logits = network.llm(**fed).logits[0, -1]
    off = float((logits - expected[0]).abs().max())
    print(f"40b: {off:.1e} off")  # shown by pytest -s
    assert off <= 1e-4
    [answer] = answered(ours, [REQUEST])
    assert answer.text == ours.processor.tokenizer.decode(expected[1])
    assert answer.cost.output_tokens == NEW_TOKENS


def tensors_of(part: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(part.glob("*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    for index in part.glob("*.index.json"):
        index.unlink()
    return tensors


def as_bin(part: Path, shards: int = 2) -> None:
    made = tensors_of(part)
    names, index = sorted(made), {}
    for shard in range(shards):
        file = f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin"
        torch.save({name: made[name] for name in names[shard::shards]}, part / file)
        index |= dict.fromkeys(names[shard::shards], file)
    (part / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def edit(path: Path, **changes: Any) -> None:
    """``None`` takes a key out."""
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def every_part_in_bin(folder: Path) -> None:
    for part in PARTS:
        as_bin(folder / part)


def one_part_in_bin(folder: Path) -> None:
    as_bin(folder / "vision_tower", shards=3)


def in_single_precision(folder: Path) -> None:
    for part in PARTS:
        made = {name: tensor.float() for name, tensor in tensors_of(folder / part).items()}
        save_file(made, folder / part / "model.safetensors", metadata={"format": "pt"})


def with_code_of_its_own(folder: Path) -> None:
    """As the released tower has; it must not run."""
    (folder / "vision_tower" / "modeling_intern_vit.py").write_text("raise SystemExit('this must not run')")
    auto = {"AutoModel": "modeling_intern_vit.InternVisionModel", "AutoConfig": "modeling_intern_vit.Config"}
    edit(folder / "vision_tower" / "config.json", auto_map=auto, use_flash_attn=True, initializer_factor=0.1)


def with_paths_of_another_machine(folder: Path) -> None:
    edit(folder / "config.json", resume_path="/home/somebody/checkpoints/vlm", _name_or_path="/home/somebody", extra=1)


def described_by_its_parts_alone(folder: Path) -> None:
    edit(folder / "config.json", llm_cfg="./llm", vision_tower_cfg=None, mm_projector_cfg={"architectures": ["M"]})


def without_generation_settings(folder: Path) -> None:
    (folder / "llm" / "generation_config.json").unlink()


def with_sampling_settings(folder: Path) -> None:
    edit(folder / "llm" / "generation_config.json", do_sample=True, temperature=0.6, repetition_penalty=1.3)


def with_image_settings_that_nobody_reads(folder: Path) -> None:
    settings = {"crop_size": 224, "image_mean": [0.1] * 3, "image_std": [0.2] * 3, "size": 224}
    (folder / "vision_tower" / "preprocessor_config.json").write_text(json.dumps(settings))


def with_tables_of_old_files(folder: Path) -> None:
    """Llamas saved before 2023's end hold the frequencies of their positions."""
    made = tensors_of(folder / "llm")
    made |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}
    save_file(made, folder / "llm" / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "change",
    [
        every_part_in_bin,
        one_part_in_bin,
        in_single_precision,
        with_code_of_its_own,
        with_paths_of_another_machine,
        described_by_its_parts_alone,
        without_generation_settings,
        with_sampling_settings,
        with_image_settings_that_nobody_reads,
        with_tables_of_old_files,
    ],
)
def test_the_same_model_in_other_files(
    folder: Path, expected: tuple[torch.Tensor, list[int]], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    change(copy)
    ours = answerer(copy)
    [answer] = answered(ours, [REQUEST])
    assert answer.text == ours.processor.tokenizer.decode(expected[1])


def test_the_layer_that_is_read_where_the_file_does_not_say(folder: Path, tmp_path: Path) -> None:
    """The authors' code takes the last but one."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    edit(copy / "config.json", mm_vision_select_layer=None)
    last = answerer(folder)._config.layer
    assert answerer(copy)._config.layer == last - 1
