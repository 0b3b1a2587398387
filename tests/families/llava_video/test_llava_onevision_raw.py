"""LLaVA-OneVision in its authors' own files, beside transformers' class for it with the same tensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asking import answered
from safetensors.torch import load_file
from tiny_llava_video import HIDDEN, PADDING_ROWS, TOWER, VISION, VISION_LAYERS, VISION_MLP, write_llava_video
from wordings import wording

from pipeline.answerers import AnswerRequest
from pipeline.domain import Frame, Question, Video
from pipeline.families.llava_video.answerer import LlavaVideo
from pipeline.families.loading.checkpoint import Checkpoint

pytestmark = pytest.mark.moving

RAW = {"mm_newline_position": None, "mm_spatial_pool_stride": None, "model_type": "llava_qwen"}
"""What the released files leave out of LLaVA-Video's."""


def answerer(folder: Path, **changes: Any) -> LlavaVideo:
    checkpoint = Checkpoint(str(folder), None, "float32", "sdpa", "cpu")
    made = LlavaVideo("raw", checkpoint, "checkpoint", "none", wording("letter_or_phrase"), 6)
    return dataclasses.replace(made, **changes)


def request(frames: int) -> AnswerRequest:
    pixels = np.random.default_rng(frames).integers(0, 255, (frames, 45, 80, 3), dtype=np.uint8)
    shown = tuple(Frame(1.25 * i, i, pixels[i]) for i in range(frames))
    video = Video("clip.mp4", "0f", 60.0, 10.0, 600, 80, 45)
    return AnswerRequest(Question("q", "clip.mp4", "Which colour?", ("red", "blue")), video, shown)


def stock(folder: Path, tied: bool) -> Any:
    """Transformers' own class, its tensors named by hand."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    raw = json.loads((folder / "config.json").read_text())
    text = {key: raw[key] for key in raw if key.startswith(("num_", "hidden_size", "intermediate", "vocab", "rms"))}
    rope = {"rope_type": "default", "rope_theta": 1e6}
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", "rope_parameters": rope, "tie_word_embeddings": tied, **text},
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": VISION,
            "intermediate_size": VISION_MLP,
            "num_hidden_layers": VISION_LAYERS,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 14,
            "vision_use_head": False,
        },
        video_token_index=raw["vocab_size"] - 1,
        image_token_index=raw["vocab_size"] - 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=tied,
    )
    model = LlavaOnevisionForConditionalGeneration(config)
    names = (
        (f"{TOWER}.", "model.vision_tower."),
        ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
        ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
        ("model.image_newline", "model.image_newline"),
        ("lm_head.", "lm_head."),
        ("model.", "model.language_model."),
    )
    tensors = {}
    for file in folder.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            theirs, ours = next(pair for pair in names if name.startswith(pair[0]))
            tensors[ours + name.removeprefix(theirs)] = tensor
    if tied:
        tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"]
    model.load_state_dict(tensors)
    return model.eval()


@pytest.mark.parametrize("tied", [False, True])
@torch.inference_mode()
def test_it_is_transformers_llava_onevision(tmp_path: Path, tied: bool) -> None:
    """Tied as in the 0.5B model, whose files hold no head of their own."""
    tensors = {"lm_head.weight": None} if tied else {}
    folder = write_llava_video(tmp_path, config={**RAW, "tie_word_embeddings": tied}, tensors=tensors)
    ours = answerer(folder)
    processor, prompt = ours.processor, ours.encode(request(3))
    inputs = ours.model.arguments(prompt, prompt.tokens)
    assert int((inputs["input_ids"] == processor.picture_token).sum()) == 3 * 196 + 1
    theirs = stock(folder, tied)
    found = ours.model.network(**inputs).logits
    expected = theirs(**inputs).logits[..., :-PADDING_ROWS]
    off = float((found - expected).abs().max())
    print(f"tied={tied}: {off:.1e} off")  # shown by pytest -s
    assert off <= 1e-4
    assert ours.model.network.lm_head.weight.shape == (len(processor.tokenizer), HIDDEN)

    written = theirs.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=6,
        suppress_tokens=list(range(processor.picture_token + 1 - PADDING_ROWS, processor.picture_token + 1)),
    )
    text = processor.tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    [answer] = answered(ours, [request(3)])
    assert answer.text == text


def test_a_batch_answers_as_its_requests_do_alone(tmp_path: Path) -> None:
    ours = answerer(write_llava_video(tmp_path, config=RAW), time_instruction="selected")
    requests = [request(2), request(2), request(1)]
    assert [one.text for one in answered(ours, requests)] == [answered(ours, [one])[0].text for one in requests]


def test_limits_and_times(tmp_path: Path) -> None:
    ours = answerer(write_llava_video(tmp_path, config=RAW))
    assert ours.limits().tokens_per_frame == 196
    assert "not told" in ours.limits().time_told
    timed = dataclasses.replace(ours, time_instruction="selected")
    assert "located at" in timed.limits().time_told
    more = timed.encode(request(3)).tokens - timed.encode(request(2)).tokens
    assert 196 < more <= timed.limits().tokens_per_frame
