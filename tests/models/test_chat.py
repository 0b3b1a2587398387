from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny

from pipeline.errors import CheckpointError
from pipeline.models.chat import IMAGE, VIDEO, load_tokenizer, render_chat, special_tokens, text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write_qwen2_vl(tmp_path)


def test_content_keeps_its_order_and_ends_where_the_answer_begins(folder: Path) -> None:
    prompt = render_chat(load_tokenizer(folder), [text("1.0s: "), IMAGE, text("\n"), VIDEO, text("Why?")])
    assert prompt == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "1.0s: <|vision_start|><|image_pad|><|vision_end|>\n<|vision_start|><|video_pad|><|vision_end|>Why?"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_system_turn_takes_the_place_of_the_templates_own(folder: Path) -> None:
    prompt = render_chat(load_tokenizer(folder), [text("Why?")], system="Be brief.")
    assert prompt.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?")


def test_the_processors_template_goes_before_the_tokenizers(folder: Path) -> None:
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "processor's"}))
    assert render_chat(load_tokenizer(folder), [text("Why?")]) == "processor's"


def test_a_checkpoint_without_a_template_cannot_be_asked(folder: Path) -> None:
    (folder / "chat_template.json").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="no chat template"):
        render_chat(load_tokenizer(folder), [text("Why?")])


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_tokenizer(folder)


def test_control_tokens_are_known(folder: Path) -> None:
    found = special_tokens(load_tokenizer(folder))
    assert {"<|image_pad|>", "<|video_pad|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>"} <= set(found)
