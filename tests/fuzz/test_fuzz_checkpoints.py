"""The settings of a checkpoint, damaged in any way: it opens, or an error of ours says that it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_glm
import tiny_internvl
import tiny_llava_video
import tiny_native
import tiny_qwen3_vl
import tiny_vila
import tiny_yi_vl
from fuzzing import Parser, survives
from hydra import compose, initialize_config_dir

from pipeline.config import build, conf_dir, register_resolvers
from pipeline.errors import CheckpointError

WRITERS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "qwen2_vl": ("answerer", "qwen2_vl_7b", tiny.write_qwen2_vl),
    "qwen3_vl": ("answerer", "qwen3_vl_8b", tiny_qwen3_vl.write_qwen3_vl),
    "glm": ("answerer", "glm4_6v_flash", tiny_glm.write_glm46v),
    "internvl": ("answerer", "internvl3_8b", tiny_internvl.write_internvl),
    "llava_onevision": ("answerer", "llava_onevision_7b", tiny.write_llava_onevision),
    "llava_video": ("answerer", "llava_video_7b", tiny_llava_video.write_llava_video),
    "vila": ("answerer", "vila15_3b", lambda folder: tiny_vila.write_vila(folder, "3b")),
    "gens": ("sampler", "gens", tiny_yi_vl.write_yi_vl),
    "transformers": ("answerer", "transformers", tiny_native.write_smolvlm),
}
READ = {".json", ".jinja", ".model", ".txt"}
LARGEST = 20_000
"""Bytes of a file that is damaged: a tokenizer of megabytes takes seconds to read."""


@cache
def made(group: str, name: str) -> Any:
    register_resolvers()
    source = f"{group}.checkpoint.source=FOLDER"
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return build(compose("ask", [f"{group}={name}", source, f"{group}.checkpoint.device=cpu"])[group], group)


def opens(group: str, name: str, file: str, content: bytes) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        folder = path.parents[len(Path(file).parts) - 1]
        whole = made(group, name)
        of_this = replace(whole, checkpoint=replace(whole.checkpoint, source=str(folder)))
        try:
            if group == "sampler":
                of_this.frame.opened(of_this.checkpoint)
            else:
                of_this.check_family()
                of_this.open()
        finally:
            path.write_bytes(content)  # the others are read with this one whole

    return read


def parsers(kind: str, folder: Path) -> list[Parser]:
    group, name, write = WRITERS[kind]
    write(folder)
    found = []
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder).as_posix()
        if path.is_file() and path.suffix in READ and path.stat().st_size < LARGEST:
            content = path.read_bytes()
            found.append(Parser(file, file, [content], opens(group, name, file, content), examples=4))
    assert found
    return found


@pytest.mark.parametrize("kind", WRITERS)
def test_any_settings_open_or_are_refused_by_name(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    survives(parsers(kind, tmp_path), tmp_path, is_long=request.config.getoption("--long"))


FOUND: list[tuple[str, str, Any]] = [
    ("vila", "llm/tokenizer_config.json", {"added_tokens_decoder": {"0": {"lstrip": False}}}),
    ("vila", "vision_tower/preprocessor_config.json", {"rescale_factor": 2**31}),
    ("gens", "tokenizer_config.json", {"added_tokens_decoder": {"0": None}}),
    ("gens", "config.json", {"vision_config": {"model_type": "custom_siglip_vision_model", "image_size": None}}),
    ("internvl", "preprocessor_config.json", {"image_mean": None}),
    ("internvl", "config.json", {"vision_config": {"image_size": [float("inf")], "patch_size": [14]}}),
    ("qwen3_vl", "preprocessor_config.json", {"size": []}),
    ("llava_onevision", "preprocessor_config.json", {"rescale_factor": 1e308}),
    ("llava_onevision", "preprocessor_config.json", {"image_mean": ["0.5" * 50, 0.5, 0.5]}),
    ("llava_video", "config.json", {"vocab_size": 10**30}),
    ("llava_video", "config.json", {"architectures": True}),
    ("glm", "chat_template.jinja", "{{ 1 / 0 }}"),
]


@pytest.mark.parametrize(("kind", "file", "changes"), FOUND)
def test_settings_that_were_found_to_break_a_family_are_refused(
    kind: str, file: str, changes: Any, tmp_path: Path
) -> None:
    (parser,) = (each for each in parsers(kind, tmp_path) if each.file == file)
    content = changes if isinstance(changes, str) else json.dumps({**json.loads(parser.seeds[0]), **changes})
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError):
        parser.read(tmp_path / file)


@pytest.mark.parametrize(("kind", "file"), [("vila", "llm/tokenizer.model"), ("gens", "tokenizer.model")])
def test_a_piece_that_is_no_text_is_refused(kind: str, file: str, tmp_path: Path) -> None:
    (parser,) = (each for each in parsers(kind, tmp_path) if each.file == file)
    (tmp_path / file).write_bytes(parser.seeds[0].replace(b"<unk>", b"\x80unk>", 1))
    with pytest.raises(CheckpointError, match="tokenizer"):
        parser.read(tmp_path / file)
