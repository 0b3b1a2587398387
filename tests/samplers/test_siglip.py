"""SigLIP and SigLIP 2 scores as the stock models give them, from all three forms of checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from embedding_samplers import ask, built, counted, pictures
from tiny_encoders import write_clip, write_siglip, write_siglip2, write_siglip2_naflex
from transformers import AutoModel, AutoTokenizer
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from pipeline.errors import CheckpointError
from pipeline.families.encoders.model import TextRows

pytestmark = pytest.mark.moving

SECONDS = 4
TEXTS = ("what colour is the square", "the dog is cooking then it sleeps")


@pytest.mark.parametrize(
    ("name", "write", "processor"),
    [
        ("siglip", write_siglip, SiglipImageProcessorPil),
        ("siglip2", write_siglip2, SiglipImageProcessorPil),
        ("siglip2", write_siglip2_naflex, Siglip2ImageProcessorPil),
    ],
    ids=["siglip", "siglip2", "naflex"],
)
@torch.inference_mode()
def test_scores_are_the_stock_models_cosines(
    name: str, write: Callable[..., Path], processor: type, tmp_path: Path
) -> None:
    folder = write(tmp_path / "checkpoint", seed=2)
    model = AutoModel.from_pretrained(folder).eval()
    with counted(tmp_path / "clip.mp4", seconds=SECONDS, size=96) as source:
        frames = [frame.pixels for frame in pictures(source, SECONDS)]
        found = built(name, folder, tmp_path, "frames_at_once=3").score(source.video, source, ask(*TEXTS))
    seen = model.get_image_features(**processor.from_pretrained(folder)(images=frames, return_tensors="pt"))
    rows = [row for text in TEXTS for row in TextRows.read(folder).rows(text, 64)]
    heard = model.get_text_features(torch.tensor(rows))
    expected = torch.nn.functional.cosine_similarity(
        heard.pooler_output[:, None], seen.pooler_output[None], dim=-1
    ).tolist()
    for one, row in zip(found, expected, strict=True):
        assert one.scores == pytest.approx(row, abs=2e-6)


@pytest.mark.parametrize("write", [write_siglip2, write_siglip2_naflex])
def test_siglip_2_texts_are_those_of_the_stock_tokenizer_in_lower_case(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write(tmp_path / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    stock = tokenizer("what is the dog doing?", padding="max_length", max_length=64).input_ids
    rows = TextRows.read(folder)
    assert rows.rows("What is THE dog doing?", 64) == [stock]
    assert stock[-1] == tokenizer.pad_token_id


def test_siglip_texts_are_those_of_the_stock_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("google.protobuf", reason="the stock tokenizer needs protobuf; ours does not")
    folder = write_siglip(tmp_path / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in ("What  is THE dog doing, then?", "a cat's photo.", "red", "zebra 42 and co"):
        stock = tokenizer(text, padding="max_length", max_length=64).input_ids
        assert TextRows.read(folder).rows(text, 64) == [stock]


def test_siglip_drops_punctuation_and_case_and_pads_with_its_end_token(tmp_path: Path) -> None:
    rows = TextRows.read(write_siglip(tmp_path / "checkpoint"))
    (row,) = rows.rows("What  is THE dog, doing?", 64)
    assert [row] == rows.rows("what is the dog doing", 64)
    assert len(row) == 64
    assert row[-1] == 1
    assert rows.rows("", 64) == [[1] * 64]


def test_a_long_text_is_cut_into_equal_pieces_that_lose_no_token(tmp_path: Path) -> None:
    rows = TextRows.read(write_siglip2(tmp_path / "checkpoint"))
    text = "then the dog sleeps in the garden " * 12
    ids = rows.encode(text)
    assert len(ids) > 126
    made = rows.rows(text, 64)
    assert len(made) == -(-len(ids) // 63)
    held = [[token for token in row if token not in (0, 1)] for row in made]
    assert [token for piece in held for token in piece] == ids
    assert max(map(len, held)) - min(map(len, held)) <= 1
    assert all(len(row) == 64 for row in made)


def test_another_family_is_named(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip")
    with counted(tmp_path / "clip.mp4", seconds=1) as source, pytest.raises(CheckpointError, match="SigLIP"):
        built("siglip", folder, tmp_path).score(source.video, source, ask("a star"))
