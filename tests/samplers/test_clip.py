"""CLIP scores as the stock model gives them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from embedding_samplers import ask, built, counted, pictures
from tiny_encoders import write_clip, write_siglip
from transformers import AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from pipeline.errors import CheckpointError

pytestmark = pytest.mark.moving

SECONDS = 4
TEXTS = ("What Colour is the square?", "the dog is cooking, then it sleeps")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"), seed=1)


@torch.inference_mode()
def test_scores_are_the_stock_models_cosines(checkpoint: Path, tmp_path: Path) -> None:
    model = CLIPModel.from_pretrained(checkpoint).eval()
    words = AutoTokenizer.from_pretrained(checkpoint)(list(TEXTS), padding=True, return_tensors="pt")
    text = model.get_text_features(**words).pooler_output
    with counted(tmp_path / "clip.mp4", seconds=SECONDS, size=96) as source:
        frames = [frame.pixels for frame in pictures(source, SECONDS)]
        found = built("clip", checkpoint, tmp_path).score(source.video, source, ask(*TEXTS))
    pixels = CLIPImageProcessorPil.from_pretrained(checkpoint)(images=frames, return_tensors="pt")
    seen = model.get_image_features(**pixels).pooler_output
    expected = torch.nn.functional.cosine_similarity(text[:, None], seen[None], dim=-1)
    for one, row in zip(found, expected.tolist(), strict=True):
        assert one.scores == pytest.approx(row, abs=2e-6)


@torch.inference_mode()
def test_a_long_text_is_the_mean_of_pieces_that_the_text_tower_can_read(checkpoint: Path, tmp_path: Path) -> None:
    model, tokenizer = CLIPModel.from_pretrained(checkpoint).eval(), AutoTokenizer.from_pretrained(checkpoint)
    text = "the red circle leaves, and then the dog sleeps in the garden; who is there? " * 5
    while len(ids := tokenizer(text, add_special_tokens=False, verbose=False).input_ids) % 3:
        text += " red"
    assert 150 < len(ids) <= 225  # three pieces of at most 75 between the two control tokens
    parts = torch.tensor(ids).split(len(ids) // 3)
    rows = [[tokenizer.bos_token_id, *part.tolist(), tokenizer.eos_token_id] for part in parts]
    vectors = [model.get_text_features(torch.tensor([row])).pooler_output[0] for row in rows]
    mean = torch.stack([vector / vector.norm() for vector in vectors]).mean(0)
    found = built("clip", checkpoint, tmp_path)._encoder.embed_texts([text, "a star"])
    assert found[0] == pytest.approx((mean / mean.norm()).numpy(), abs=2e-6)


def test_another_family_is_named(tmp_path: Path) -> None:
    folder = write_siglip(tmp_path / "siglip")
    with counted(tmp_path / "clip.mp4", seconds=1) as source, pytest.raises(CheckpointError, match="siglip") as raised:
        built("clip", folder, tmp_path).score(source.video, source, ask("a star"))
    assert "sampler.checkpoint.source" in str(raised.value)


@pytest.mark.parametrize("lost", ["tokenizer", "preprocessor_config.json"])
def test_a_folder_without_all_its_files_is_an_error_that_says_which(tmp_path: Path, lost: str) -> None:
    folder = write_clip(tmp_path / "clip")
    for path in folder.iterdir():
        if path.name.startswith(lost) or (lost == "tokenizer" and path.name in ("vocab.json", "merges.txt")):
            path.unlink()
    with counted(tmp_path / "clip.mp4", seconds=1) as source, pytest.raises(CheckpointError, match=lost):
        built("clip", folder, tmp_path).score(source.video, source, ask("a star"))
