"""The tokens of GenS, of a SentencePiece model made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tiny_yi_vl import MARKERS, write_tokenizer

from pipeline.errors import CheckpointError
from pipeline.families.aria.tokenizer import ChunkTokenizer
from pipeline.families.chat import IMAGE, render_chat, text

pytestmark = pytest.mark.moving

PROMPT = (
    "<|im_start|>user\n[0]<fim_prefix><|img|><fim_suffix>\n[1]<fim_prefix><|img|><fim_suffix>\nQuestion: when? ü 猫"
)


def opened(folder: Path, dummy_prefix: bool = False, byte_fallback: bool = True, **settings: Any) -> ChunkTokenizer:
    folder.mkdir(exist_ok=True)
    vocab = write_tokenizer(folder, dummy_prefix, byte_fallback)
    path = folder / "tokenizer_config.json"
    written = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({key: value for key, value in written.items() if value != "absent"}))
    return ChunkTokenizer(folder, vocab)


def plain(folder: Path) -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def test_a_chunk_is_what_sentencepiece_makes_of_it(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path)
    chunks = tokenizer(PROMPT)
    pieces = plain(tmp_path)
    assert chunks == [pieces.encode(part) for part in PROMPT.split("<|img|>")]
    assert [token for chunk in chunks for token in chunk if token == tokenizer.image_token] == []
    assert tokenizer.image_token == 9
    assert "".join(tokenizer.decode(chunk) for chunk in chunks) == PROMPT.replace("<|img|>", "")


def test_where_texts_begin_with_a_space_every_chunk_does(tmp_path: Path) -> None:
    """So the authors' code does, which tokenises the chunks one by one; one text would have one such space."""
    chunks = opened(tmp_path, dummy_prefix=True)(PROMPT)
    pieces = plain(tmp_path)
    assert [pieces.id_to_piece(chunk[0])[0] for chunk in chunks] == ["▁"] * 3
    whole = pieces.encode(PROMPT)
    assert sum(len(chunk) for chunk in chunks) + 2 > len(whole)


def test_what_the_vocabulary_does_not_know_is_left_out(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path, byte_fallback=False)
    known, unknown = tokenizer("Question: when?"), tokenizer("Question: 猫when?")
    assert known == unknown
    assert 0 in plain(tmp_path).encode("Question: 猫when?")


def test_the_beginning_of_text_only_where_it_is_asked_for_and_exists(tmp_path: Path) -> None:
    assert opened(tmp_path)("a")[0][0] > 9
    named = opened(tmp_path, add_bos_token=True, bos_token="<|startoftext|>")(PROMPT)
    assert named[0][0] == 1
    assert all(chunk[0] != 1 for chunk in named[1:])
    for settings in ({"add_bos_token": True}, {"add_bos_token": "absent"}):
        with pytest.raises(CheckpointError, match="has no embedding"):
            opened(tmp_path, **settings)


@pytest.mark.parametrize(
    ("dummy_prefix", "settings", "named"),
    [(False, {"add_eos_token": True}, "add_eos_token"), (True, {"legacy": False}, "legacy=false")],
)
def test_another_tokenisation_is_refused(
    tmp_path: Path, dummy_prefix: bool, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(CheckpointError, match=named):
        opened(tmp_path, dummy_prefix, **settings)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="not a SentencePiece model"):
        ChunkTokenizer(tmp_path, 400)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.model"):
        ChunkTokenizer(tmp_path, 400)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json cannot be read"):
        ChunkTokenizer(tmp_path, 400)


def test_a_vocabulary_without_images_is_refused(tmp_path: Path) -> None:
    import io

    write_tokenizer(tmp_path)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d"]),
        model_writer=model,
        vocab_size=12,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    with pytest.raises(CheckpointError, match=r"no <\|img\|>"):
        ChunkTokenizer(tmp_path, 12)


def test_markers_are_known_and_words_are_not(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path)
    assert {*MARKERS, "<s>", "</s>", "<unk>"} == set(tokenizer.control_tokens)


def test_what_people_write_is_no_marker(tmp_path: Path) -> None:
    """Though the vocabulary has a piece for it."""
    import io

    write_tokenizer(tmp_path)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a</b>a <b>a", "</b>a</b>", "b</b>b"] * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=40,
        split_by_unicode_script=False,
        hard_vocab_limit=False,
        user_defined_symbols=list(MARKERS),
        add_dummy_prefix=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    tokenizer = ChunkTokenizer(tmp_path, 100)
    assert "</b>" in tokenizer.get_vocab()
    assert {*MARKERS, "<s>", "</s>", "<unk>"} == set(tokenizer.control_tokens)


def test_the_template_writes_what_the_authors_write(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path)
    turn = [text("[0]"), dict(IMAGE), text("\n"), text("Question: when?")]
    assert render_chat(tokenizer, turn) == (
        "<|im_start|>user\n[0]<fim_prefix><|img|><fim_suffix>\nQuestion: when?<|im_end|>\n<|im_start|>assistant\n"
    )
    with pytest.raises(CheckpointError, match="no chat template"):
        render_chat(opened(tmp_path, chat_template="absent"), turn)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0]['role'] }}!")
    assert render_chat(opened(tmp_path), turn) == "user!"


def test_ids_beyond_the_vocabulary_have_no_text(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path)
    vocab = len(tokenizer.get_vocab())
    tokens = tokenizer('{"0": 5}')[0]
    assert tokenizer.decode([*tokens, vocab, vocab + 1]) == '{"0": 5}'
