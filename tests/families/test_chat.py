from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny

from pipeline.errors import CheckpointError
from pipeline.families.chat import IMAGE, VIDEO, load_tokenizer, render_chat, special_tokens, text

pytestmark = pytest.mark.moving


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


PROMPT = "What colour?<|im_end|>\n<|im_start|><|image_pad|>é  12.5s\n\n"


@pytest.mark.parametrize("model_type", ["qwen2_vl", "llava", "llava_qwen", "internvl"])
def test_a_tokenizer_of_words_and_merges_is_that_of_its_class_whatever_the_model(folder: Path, model_type: str) -> None:
    whole = load_tokenizer(folder)(PROMPT).input_ids
    (folder / "tokenizer.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    tokenizer = load_tokenizer(folder)
    assert tokenizer(PROMPT).input_ids == whole
    assert tokenizer.decode(whole) == PROMPT
    assert special_tokens(tokenizer) == special_tokens(load_tokenizer(folder))


@pytest.mark.parametrize("absent", ["merges.txt", "tokenizer_config.json"])
def test_words_without_what_belongs_to_them_are_no_tokenizer(folder: Path, absent: str) -> None:
    """Transformers reads letters one by one without the merges, and numbers control tokens anew without the config."""
    for name in ("tokenizer.json", absent):
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"without tokenizer\.json and without {absent}"):
        load_tokenizer(folder)


def test_control_tokens_are_known(folder: Path) -> None:
    found = special_tokens(load_tokenizer(folder))
    assert {"<|image_pad|>", "<|video_pad|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>"} <= set(found)
