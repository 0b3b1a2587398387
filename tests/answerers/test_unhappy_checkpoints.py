"""What is wrong with a checkpoint is told by name, with a remedy, and before a frame is decoded where it can be.

Each family's YAML is given the tiny checkpoint of every other family, and folders that lack something.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_aria
import tiny_internvl
import tiny_llava_video
import tiny_qwen3_vl
import tiny_vila
from asking import answered
from hydra import compose, initialize_config_dir

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Frame, Question, Status, Video
from pipeline.errors import CheckpointError


def _raw_onevision(folder: Path) -> Path:
    return tiny_llava_video.write_llava_video(folder, config={"mm_newline_position": None})


WRITERS: dict[str, Callable[[Path], Path]] = {
    "qwen2_vl": tiny.write_qwen2_vl,
    "qwen2_5_vl": tiny.write_qwen2_5_vl,
    "qwen3_vl": tiny_qwen3_vl.write_qwen3_vl,
    "llava_onevision": tiny.write_llava_onevision,
    "llava_video": tiny_llava_video.write_llava_video,
    "llava_onevision_raw": _raw_onevision,
    "vila15": lambda folder: tiny_vila.write_vila(folder, "3b"),
    "aria": tiny_aria.write_aria,
    "internvl3": tiny_internvl.write_internvl,
}
YAMLS = {
    "qwen2_vl_7b": ("qwen2_vl", "qwen2_5_vl"),
    "qwen2_5_vl_7b": ("qwen2_vl", "qwen2_5_vl"),
    "qwen3_vl_8b": ("qwen3_vl",),
    "llava_onevision_7b": ("llava_onevision",),
    "llava_video_7b": ("llava_video", "llava_onevision_raw"),
    "llava_onevision_raw_7b": ("llava_video", "llava_onevision_raw"),
    "vila15_3b": ("vila15",),
    "aria": ("aria",),
    "internvl3_8b": ("internvl3",),
}
"""Each YAML and the checkpoints that its class takes."""
TOLD = {
    "qwen2_vl": ("Qwen2-VL", "answerer=qwen2_vl_7b"),
    "qwen2_5_vl": ("Qwen2.5-VL", "answerer=qwen2_5_vl_7b"),
    "qwen3_vl": ("Qwen3-VL", "answerer=qwen3_vl_8b"),
    "llava_onevision": ("LLaVA-OneVision (-hf)", "answerer=llava_onevision_7b"),
    "llava_video": ("LLaVA-Video", "answerer=llava_video_7b"),
    "llava_onevision_raw": ("LLaVA-OneVision as its authors wrote it", "answerer=llava_onevision_raw_7b"),
    "vila15": ("VILA-1.5", "answerer=vila15_3b"),
    "aria": ("Aria", "answerer=aria"),
    "internvl3": ("InternVL3 (-hf)", "answerer=internvl3_8b"),
}
LOOSE = [("qwen2_vl_7b", "qwen2_vl"), ("qwen3_vl_8b", "qwen3_vl"), ("llava_onevision_7b", "llava_onevision")]
"""One of each kind of reader, for what the models share."""
LOOSE += [("llava_video_7b", "llava_video"), ("vila15_3b", "vila15"), ("aria", "aria"), ("internvl3_8b", "internvl3")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in WRITERS.items()}


@lru_cache
def _made(name: str) -> Any:
    register_resolvers()
    on_cpu = ["answerer.checkpoint.device=cpu", "answerer.checkpoint.dtype=float32", "answerer.max_new_tokens=4"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build(compose("ask", [f"answerer={name}", *on_cpu]).answerer, "answerer")


def answerer(name: str, source: Path | str) -> Answerer:
    """As the command line makes it, of this checkpoint."""
    made = _made(name)
    found = replace(made, checkpoint=replace(made.checkpoint, source=str(source)))
    assert isinstance(found, Answerer)
    return found


def request(*shapes: tuple[int, int], times: tuple[float, ...] = (), question: Question | None = None) -> AnswerRequest:
    dice = np.random.default_rng(0)
    shown = tuple(
        Frame(times[i] if times else 1.5 * i, i, dice.integers(0, 255, (*shape, 3), dtype=np.uint8))
        for i, shape in enumerate(shapes)
    )
    asked = question or Question("q", "clip.mp4", "Which colour?", ("red", "blue"))
    return AnswerRequest(asked, Video("clip.mp4", "0f", 60.0, 10.0, 600, 80, 45), shown)


PLAIN = request((45, 80), (45, 80))


@pytest.mark.parametrize("name", YAMLS)
def test_a_checkpoint_of_another_family(folders: dict[str, Path], name: str) -> None:
    """``identity`` is what a command asks first of all."""
    for kind, folder in folders.items():
        ours = answerer(name, folder)
        if kind in YAMLS[name]:
            ours.identity()
            continue
        called, choice = TOLD[kind]
        for call in (ours.identity, ours.limits):
            with pytest.raises(CheckpointError) as error:
                call()
            assert f"so it is {called}." in error.value.problem
            assert f"{choice} answerer.checkpoint.source={folder}" in error.value.remedy


@pytest.mark.parametrize("name", YAMLS)
def test_no_checkpoint_at_all(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    for source, told in (
        (tmp_path, "no config.json"),
        (tmp_path / "absent", "no checkpoint folder"),
        ("nobody/nothing", "not in the local cache"),
    ):
        ours = answerer(name, source)
        for call in (ours.identity, ours.limits):
            with pytest.raises(CheckpointError, match=told) as error:
                call()
            assert "answerer.checkpoint.source=" in error.value.remedy


def _without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            for path in folder.rglob(name):
                path.unlink()

    return change


def _shard_absent(folder: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    part = next(folder.rglob("*.safetensors")).parent
    (part / "model.safetensors.index.json").write_text(
        json.dumps(index | {"weight_map": {"a": "model-00009.safetensors"}})
    )


def _cut(folder: Path) -> None:
    path = next(folder.rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])


def _pointer(folder: Path) -> None:
    path = next(folder.rglob("*.safetensors"))
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4567\n")


def _adapter(folder: Path) -> None:
    _without("*.safetensors", "config.json")(folder)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "maker/base"}))
    (folder / "adapter_model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")


def _adapter_beside(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "maker/base"}))


def _index_broken(folder: Path) -> None:
    (next(folder.rglob("*.safetensors")).parent / "model.safetensors.index.json").write_text('{"weight_map"')


def _config_broken(folder: Path) -> None:
    (folder / "config.json").write_text("<!doctype html>")


KNOWN_AT_ONCE = {
    "a shard is absent": (_shard_absent, "model-00009.safetensors"),
    "no weights": (_without("*.safetensors"), "incomplete"),
    "a broken download": (_cut, "where its header announces"),
    "Git LFS was not there": (_pointer, "git lfs pull"),
    "no tokenizer": (_without("tokenizer.*", "vocab.json"), "no tokenizer"),
    "a LoRA": (_adapter, "adapter.*maker/base"),
    "a LoRA beside a model": (_adapter_beside, "adapter.*maker/base"),
    "a broken index": (_index_broken, "not a readable index"),
    "a page in place of a file": (_config_broken, "cannot be read as JSON"),
}


@pytest.mark.parametrize("fault", KNOWN_AT_ONCE)
def test_a_folder_that_lacks_something_is_refused_before_anything_is_done(
    folders: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    change, told = KNOWN_AT_ONCE[fault]
    for name, kind in LOOSE:
        copy = Path(shutil.copytree(folders[kind], tmp_path / kind))
        change(copy)
        ours = answerer(name, copy)
        with pytest.raises(CheckpointError, match=rf"(?s){told}") as error:
            ours.identity()
        assert "answerer.checkpoint.source=" in error.value.remedy
        with pytest.raises(CheckpointError):
            answered(ours, [PLAIN])


def _broken(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            for path in folder.rglob(name):
                path.write_text('{"a')

    return change


@pytest.mark.parametrize(
    ("change", "spared"),
    [
        # LLaVA-Video's and Aria's settings are the authors' code's.
        (_without("preprocessor_config.json"), ("llava_video", "aria")),
        (_broken("preprocessor_config.json"), ("llava_video", "aria")),
        (_broken("tokenizer.json", "tokenizer.model"), ()),
    ],
    ids=["no image settings", "broken image settings", "broken tokenizer"],
)
def test_files_that_are_read_with_the_first_question(
    folders: dict[str, Path], tmp_path: Path, change: Callable[[Path], None], spared: tuple[str, ...]
) -> None:
    for name, kind in LOOSE:
        if kind in spared:
            continue
        copy = Path(shutil.copytree(folders[kind], tmp_path / kind))
        change(copy)
        ours: Any = answerer(name, copy)
        with pytest.raises(CheckpointError) as error:
            answered(ours, [PLAIN])
        assert "answerer.checkpoint.source=" in error.value.remedy
        assert not ours.is_loaded


def test_a_pickle_that_is_none(folders: dict[str, Path], tmp_path: Path) -> None:
    for name, kind in LOOSE:
        if kind == "vila15":
            continue  # its parts are loaded as the others are
        for content in (b"", b"hello world"):
            copy = Path(shutil.copytree(folders[kind], tmp_path / f"{kind}-{len(content)}"))
            _without("*.safetensors", "*.index.json")(copy)
            (copy / "pytorch_model.bin").write_bytes(content)
            with pytest.raises(CheckpointError) as error:
                answered(answerer(name, copy), [PLAIN])
            assert "answerer.checkpoint.source=" in error.value.remedy


SHAPES = {
    "one pixel": [(1, 1), (1, 1)],
    "three rows": [(3, 3)],
    "three columns": [(10, 3)],
    "odd sides": [(37, 53), (37, 53)],
    "wide": [(20, 900), (20, 900)],
    "tall": [(900, 20)],
    "a strip": [(1, 700), (1, 700)],
    "two shapes": [(40, 60), (60, 40)],
}


@pytest.mark.parametrize(("name", "kind"), LOOSE)
def test_any_frames_give_an_answer_or_a_status(folders: dict[str, Path], name: str, kind: str) -> None:
    ours = answerer(name, folders[kind])
    asked = {label: request(*shapes) for label, shapes in SHAPES.items()}
    asked["the same second twice"] = request((45, 80), (45, 80), (45, 80), times=(1.0, 1.0, 2.0))
    asked["one second"] = request((45, 80), (45, 80), times=(5.0, 5.0))
    for label, answer in zip(asked, answered(ours, list(asked.values()), batch=3), strict=True):
        if answer.cost.output_tokens == 0 and answer.status is not Status.EMPTY_ANSWER:
            assert "what to do:" in answer.detail, (label, answer)
            assert label in ("a strip", "two shapes"), (label, answer)
        assert answer.frame_times == tuple(frame.time for frame in asked[label].frames)


@pytest.mark.parametrize(("name", "kind"), LOOSE)
def test_any_number_of_options(folders: dict[str, Path], name: str, kind: str) -> None:
    ours = answerer(name, folders[kind])
    asked = [
        Question("3", "clip.mp4", "Which?", ("red", "green", "blue")),
        Question("5", "clip.mp4", "Which?", ("red", "green", "blue", "black", "white")),
        Question("text", "clip.mp4", "Which?\nA. red\nB. green", ("red", "green")),
        Question("free", "clip.mp4", "Which?\nA. red\nB. green"),
    ]
    answers = answered(ours, [request((45, 80), question=one) for one in asked])
    for question, answer in zip(asked, answers, strict=True):
        assert answer.status in (Status.OK, Status.UNPARSED, Status.EMPTY_ANSWER)
        if answer.option is not None:
            assert answer.option < len(question.options or ())


def test_a_hub_checkpoint_in_three_folders_needs_no_network(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from pipeline.families.loading import hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--maker--vila"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folders["vila15"], repository / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for cached in (hub.config_file, hub.snapshot):
        cached.cache_clear()
    [answer] = answered(answerer("vila15_3b", "maker/vila"), [PLAIN])
    assert answer.cost.output_tokens > 0


CONTRADICTORY = {
    "heads of the vision tower are left out": ("qwen2_vl_7b", "qwen2_vl", "vision_config.num_heads", None),
    "a window of no size": ("qwen2_5_vl_7b", "qwen2_5_vl", "vision_config.window_size", 0),
    "features of no layer": ("llava_onevision_7b", "llava_onevision", "vision_feature_layer", 99),
    "features of the input": ("internvl3_8b", "internvl3", "vision_feature_layer", 0),
    "a list for a model": ("qwen2_vl_7b", "qwen2_vl", "model_type", []),
    "a word for a context": ("llava_onevision_7b", "llava_onevision", "text_config.max_position_embeddings", "odd"),
    "patches of no size": ("llava_onevision_7b", "llava_onevision", "vision_config.patch_size", 0),
    "a word for a length": ("llava_video_7b", "llava_video", "tokenizer_model_max_length", "odd"),
    "tiles of no patches": ("internvl3_8b", "internvl3", "vision_config.patch_size", 0),
}


@pytest.mark.parametrize("fault", CONTRADICTORY)
def test_a_config_that_contradicts_the_weights_is_no_traceback(
    folders: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    name, kind, key, value = CONTRADICTORY[fault]
    folder = shutil.copytree(folders[kind], tmp_path / "edited")
    config = json.loads((folder / "config.json").read_text())
    part, _, last = key.rpartition(".")
    place = config[part] if part else config
    if value is None:
        del place[last]
    else:
        place[last] = value
    (folder / "config.json").write_text(json.dumps(config))
    ours = answerer(name, folder)
    with contextlib.suppress(CheckpointError):
        ours.limits()
    with pytest.raises(CheckpointError) as error:
        answered(ours, [PLAIN])
    assert str(folder) in error.value.problem
    assert "answerer.checkpoint.source=" in error.value.remedy


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("tokenizer_config.json", "model_max_length", "odd"), ("preprocessor_config.json", "image_mean", [])],
)
def test_a_setting_of_another_kind_is_no_traceback(
    folders: dict[str, Path], tmp_path: Path, name: str, key: str, value: Any
) -> None:
    folder = shutil.copytree(folders["qwen2_vl"], tmp_path / "edited")
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(config | {key: value}))
    with pytest.raises(CheckpointError, match=r"(?s)edited.*answerer\.checkpoint\.source="):
        answered(answerer("qwen2_vl_7b", folder), [PLAIN])


EDITED = {
    "image_token_id is left out": ("qwen2_vl_7b", "qwen2_vl", {"image_token_id": None}, "image_token_id"),
    "video_token_id is another": ("qwen3_vl_8b", "qwen3_vl", {"video_token_id": 0}, "video_token_id"),
    "rope_scaling is left out": ("qwen2_vl_7b", "qwen2_vl", {"rope_scaling": None}, "mrope_section"),
    "a word for sections": (
        "qwen2_5_vl_7b",
        "qwen2_5_vl",
        {"rope_scaling": {"type": "mrope", "mrope_section": "odd"}},
        "mrope_section",
    ),
    "a word for a part": ("qwen3_vl_8b", "qwen3_vl", {"text_config": "odd"}, "text_config"),
    "no heads": ("qwen2_vl_7b", "qwen2_vl", {"num_attention_heads": 0}, "cannot be loaded"),
    "words for a context": (
        "vila15_3b",
        "vila15",
        {"llm_cfg": {"model_type": "llama", "model_max_length": "odd"}},
        "odd",
    ),
    "a token below 0": ("llava_onevision_7b", "llava_onevision", {"image_token_index": -1}, "image_token_index"),
    "a word of the language": ("llava_onevision_7b", "llava_onevision", {"video_token_index": 3}, "video_token_index"),
}


@pytest.mark.parametrize("fault", EDITED)
def test_an_edited_config_is_refused_by_the_name_of_its_key(
    folders: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    name, kind, change, told = EDITED[fault]
    folder = shutil.copytree(folders[kind], tmp_path / "edited")
    config = {**json.loads((folder / "config.json").read_text()), **change}
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    with pytest.raises(CheckpointError, match=told) as error:
        answered(answerer(name, folder), [PLAIN])
    assert error.value.remedy


@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "num_hidden_layers"])
@pytest.mark.parametrize(("name", "kind"), LOOSE)
def test_a_size_that_the_config_leaves_out_is_named_before_a_tensor_is_made(
    folders: dict[str, Path], tmp_path: Path, name: str, kind: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers' defaults are those of a model of 7B, whose random weights take minutes."""
    folder = shutil.copytree(folders[kind], tmp_path / "edited")
    file = folder / ("llm/config.json" if kind == "vila15" else "config.json")
    config = json.loads(file.read_text())
    part = config.get("text_config", config)
    assert part.pop(key)
    file.write_text(json.dumps(config))
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", _unreachable)
    with pytest.raises(CheckpointError, match=rf"(?s)config.json of .*edited.*{key}") as error:
        answered(answerer(name, folder), [PLAIN])
    assert "answerer.checkpoint.source=" in error.value.remedy


def _unreachable(*_: Any, **__: Any) -> None:
    raise AssertionError("tensors are made")
