"""Aria: what its prompt says, and that stock transformers gives the same."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_aria
import tiny_yi_vl
import torch
from asking import answered, configured, frames, request

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.config import conf_dir
from pipeline.domain import Status
from pipeline.errors import CheckpointError
from pipeline.families.aria.answerer import Aria
from pipeline.families.chat import FrameLabels

pytestmark = pytest.mark.moving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_aria.write_aria(tmp_path_factory.mktemp("aria"))


@pytest.fixture(scope="module")
def answerer(folder: Path) -> Aria:
    settings = ("answerer.checkpoint.device=cpu", "answerer.max_new_tokens=8")
    return configured(Aria, "aria", f"answerer.checkpoint.source={folder}", *settings)


ASKED = [
    request("What colour is the square?", frames(0.0, 4.0), ("red", "blue")),
    request("Why?", frames(1.0, 70.0, seed=1, height=160, width=90)),
    request("What appears after the circle?", frames(3.0, seed=2, height=50, width=50), ("square", "circle")),
]


@pytest.mark.parametrize(("name", "source"), [("aria", "rhymes-ai/Aria"), ("aria_chat", "rhymes-ai/Aria-Chat")])
def test_every_yaml_names_its_checkpoint_and_tells_the_true_times(name: str, source: str) -> None:
    answerer = configured(Aria, name)
    assert isinstance(answerer, Answerer)
    assert (answerer.name, answerer.checkpoint.source) == (name, source)
    assert answerer.images == FrameLabels("[{time:.1f}s]", "")


def test_building_and_limits_import_no_torch(folder: Path) -> None:
    code = (
        "import sys; from pipeline.config import build, conf_dir; from hydra import compose, initialize_config_dir;"
        "initialize_config_dir(str(conf_dir()), version_base='1.3').__enter__();"
        f"node = compose('answerer/aria', ['answerer.checkpoint.source=' + {str(folder)!r}]).answerer;"
        "answerer = build(node, 'answerer'); answerer.identity(); answerer.limits();"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=conf_dir().parent, env=dict(os.environ))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("[{time:.1f}s]", "[1.0s]<fim_prefix>*<fim_suffix>[70.0s]<fim_prefix>*<fim_suffix>\nWhy?"),
        ("", "<fim_prefix>*<fim_suffix><fim_prefix>*<fim_suffix>\nWhy?"),
    ],
)
def test_the_prompt(answerer: Aria, label: str, expected: str) -> None:
    told = dataclasses.replace(answerer, images=FrameLabels(label, ""))
    ids = told.encode(ASKED[1]).input_ids.tolist()
    pieces = told.processor.tokenizer._pieces
    assert ids.count(9) == 256
    assert pieces.decode(ids) == (
        f"<|im_start|>user\n{expected}<|im_end|>\n<|im_start|>assistant\n".replace("*", "<|img|>" * 128)
    )
    # Text as SentencePiece alone reads it: no space is begun behind a marker.
    question = pieces.encode("\nWhy?")
    end = ids.index(pieces.piece_to_id("<|im_end|>"))
    assert ids[end - len(question) : end] == question


def test_pixels_and_masks_are_the_stock_pil_processors(answerer: Aria) -> None:
    from PIL import Image
    from transformers.models.aria.image_processing_pil_aria import AriaImageProcessorPil

    shown = [*frames(0.0), *frames(1.0, height=720, width=1280), *frames(2.0, height=300, width=200)]
    stock = AriaImageProcessorPil()(
        images=[Image.fromarray(frame.pixels) for frame in shown], max_image_size=490, return_tensors="pt"
    )
    prompt = answerer.encode(request("Why?", tuple(shown)))
    fed = answerer.model.arguments(prompt, prompt.tokens)
    assert torch.equal(fed["pixel_values"], stock["pixel_values"])
    assert torch.equal(fed["pixel_mask"], stock["pixel_mask"].bool())


def by_stock(answerer: Aria, asked: AnswerRequest, **others: Any) -> list[int]:
    """The tokens of stock ``generate`` from the stock processor's pixels."""
    from PIL import Image
    from transformers.models.aria.image_processing_pil_aria import AriaImageProcessorPil

    made = AriaImageProcessorPil()(
        images=[Image.fromarray(frame.pixels) for frame in asked.frames], max_image_size=490, return_tensors="pt"
    )
    ids = torch.from_numpy(answerer.encode(asked).input_ids)[None]
    inputs = {"pixel_values": made["pixel_values"], "pixel_mask": made["pixel_mask"]} | others
    with torch.inference_mode():
        output = answerer.model.network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=[2, answerer.processor.tokenizer.eos_token_id],
            pad_token_id=0,
            **inputs,
        )
    found: list[int] = output[0, ids.shape[1] :].tolist()
    return found


def test_answers_are_those_of_stock_generate(answerer: Aria) -> None:
    tokenizer = answerer.processor.tokenizer
    for asked in ASKED:
        found = by_stock(answerer, asked)
        kept = [token for token in found if token not in (2, tokenizer.eos_token_id)]
        assert answered(answerer, [asked])[0].text.strip() == tokenizer.decode(kept).strip()


@torch.inference_mode()
def test_the_mask_reaches_the_model(answerer: Aria) -> None:
    network = answerer.model.network
    masks: list[Any] = []
    network.model.vision_tower.register_forward_pre_hook(
        lambda module, args, kwargs: masks.append(kwargs.get("patch_attention_mask")), with_kwargs=True
    )
    answered(answerer, [ASKED[0]])
    prompt = answerer.encode(ASKED[0])
    fed = answerer.model.arguments(prompt, prompt.tokens)
    assert torch.equal(masks[0], network.model._create_patch_attention_mask(fed["pixel_mask"]))
    masked = network(**fed).logits[0, -1]
    bare = network(input_ids=fed["input_ids"], pixel_values=fed["pixel_values"]).logits[0, -1]
    assert (masked - bare).abs().max() > 1e-3


def test_an_answer_is_the_same_alone_and_in_any_batch(answerer: Aria) -> None:
    together = answered(answerer, ASKED)
    for asked, answer in zip(ASKED, together, strict=True):
        (alone,) = answered(answerer, [asked])
        assert (alone.text, alone.status) == (answer.text, answer.status)
        assert answer.frame_times == tuple(frame.time for frame in asked.frames)
        assert answer.cost.prompt_tokens == len(answerer.encode(asked).input_ids)
        assert answer.form.startswith("images on 490 x 490 pixels; time: text before each image")
    assert [answer.text for answer in answered(answerer, ASKED[::-1])] == [answer.text for answer in together[::-1]]


def test_pictures_and_their_times_reach_the_model(answerer: Aria) -> None:
    def says(*times: float, seed: int = 0) -> str:
        return answered(answerer, [request("Why?", frames(*times, seed=seed))])[0].text

    assert len({says(0.0, 1.0, seed=seed) for seed in range(3)}) > 1
    assert len({says(0.0, time) for time in (1.0, 50.0, 1000.0)}) > 1
    untold = dataclasses.replace(answerer, images=FrameLabels("", ""))
    assert "not told" in untold.limits().time_told


def test_the_end_of_the_turn_ends_an_answer(answerer: Aria) -> None:
    """The checkpoint's generation settings do not name it."""
    from pipeline.generation.texts import end_tokens

    tokenizer = answerer.processor.tokenizer
    assert end_tokens(answerer.model.language, tokenizer) == {2, tokenizer._pieces.piece_to_id("<|im_end|>")}


def test_limits_hold_for_what_a_request_really_takes(answerer: Aria) -> None:
    limits = answerer.limits()
    one, two = (len(answerer.encode(request("Why?", frames(*times))).input_ids) for times in ((9e3,), (9e3, 9001.0)))
    assert limits.context_tokens == 65536
    assert 128 < two - one <= limits.tokens_per_frame <= 140


def test_markers_in_a_question_are_refused(answerer: Aria) -> None:
    for marker in ("<|img|>", "<|im_end|>", "<fim_suffix>"):
        (answer,) = answered(answerer, [request(f"What is {marker}?", frames(0.0))])
        assert answer.status is Status.INVALID_QUESTION
        assert marker in answer.detail


def test_gens_is_no_answerer(tmp_path: Path, answerer: Aria) -> None:
    other = tiny_yi_vl.write_yi_vl(tmp_path)
    wrong = dataclasses.replace(answerer, checkpoint=dataclasses.replace(answerer.checkpoint, source=str(other)))
    for call in (wrong.limits, lambda: answered(wrong, ASKED)):
        with pytest.raises(CheckpointError, match="is not Aria: its model_type is yi_vl"):
            call()


def test_files_of_another_checkpoint_are_refused(tmp_path: Path, answerer: Aria) -> None:
    folder = tiny_aria.write_aria(tmp_path)
    wrong = dataclasses.replace(answerer, checkpoint=dataclasses.replace(answerer.checkpoint, source=str(folder)))
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"image_token_index": 11}))
    with pytest.raises(CheckpointError, match="image_token_index=11"):
        answered(wrong, ASKED)
    file.write_text(json.dumps(config | {"projector_patch_to_query_dict": {"4900": 256}}))
    with pytest.raises(CheckpointError, match="1225"):
        wrong.limits()


def test_the_identity_follows_what_decides_answers_and_not_what_decides_speed(answerer: Aria) -> None:
    checkpoint = answerer.checkpoint
    same = [
        dataclasses.replace(answerer, name="other"),
        dataclasses.replace(answerer, checkpoint=dataclasses.replace(checkpoint, device="auto", attention="eager")),
    ]
    other = [
        dataclasses.replace(answerer, images=FrameLabels("", "")),
        dataclasses.replace(answerer, max_new_tokens=9),
        dataclasses.replace(answerer, checkpoint=dataclasses.replace(checkpoint, dtype="bfloat16")),
    ]
    assert all(each.identity() == answerer.identity() for each in same)
    assert all(each.identity() != answerer.identity() for each in other)
