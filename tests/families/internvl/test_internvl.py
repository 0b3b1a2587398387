"""InternVL3: what its prompt says, and that stock transformers gives the same."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import tiny_internvl
import torch
from asking import answered, configured, frames, request

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.domain import Status
from pipeline.errors import CheckpointError, ConfigError
from pipeline.families.chat import FrameLines
from pipeline.families.internvl.answerer import InternVL
from pipeline.families.loading.checkpoint import Checkpoint

pytestmark = pytest.mark.moving

SIZES = ("2b", "8b", "14b", "38b", "78b")
PUBLISHED = FrameLines("Frame{frame}: ", "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_internvl.write_internvl(tmp_path_factory.mktemp("internvl"))


@pytest.fixture(scope="module")
def answerer(folder: Path) -> InternVL:
    settings = ("answerer.checkpoint.device=cpu", "answerer.max_new_tokens=8")
    return configured(InternVL, "internvl3_8b", f"answerer.checkpoint.source={folder}", *settings)


ASKED = [
    request("What colour is the square?", frames(0.0, 4.0), ("red", "blue")),
    request("Why?", frames(1.0, 2.5, 70.0, seed=1, height=160, width=90)),
    request("What appears after the circle?", frames(3.0, seed=2), ("square", "circle", "frame")),
]


def turn(answerer: InternVL, asked: AnswerRequest) -> str:
    """The user's, as the model reads it."""
    text: str = answerer.processor.tokenizer.decode(answerer.encode(asked).input_ids)
    return text.removeprefix("<|im_start|>user\n").removesuffix("<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("size", SIZES)
def test_every_yaml_names_its_checkpoint_and_tells_the_true_times(size: str) -> None:
    answerer = configured(InternVL, f"internvl3_{size}")
    assert isinstance(answerer, Answerer)
    assert answerer.name == f"internvl3_{size}"
    assert answerer.checkpoint.source == f"OpenGVLab/InternVL3-{size.upper()}-hf"
    assert answerer.images.before(12.34, 2) == "Frame2 (12.3s): "


def test_each_frame_is_a_line_with_its_number_and_second(answerer: InternVL) -> None:
    image = f"<img>{'<IMG_CONTEXT>' * 4}</img>"
    assert turn(answerer, ASKED[1]) == f"Frame1 (1.0s): {image}\nFrame2 (2.5s): {image}\nFrame3 (70.0s): {image}\nWhy?"


def test_without_times_it_is_the_stock_processors_video(answerer: InternVL) -> None:
    """Its own code for a video's text, which needs no torchvision; the chat template writes the line's end behind."""
    from transformers.models.internvl.processing_internvl import InternVLProcessor

    stock = SimpleNamespace(
        start_image_token="<img>", image_token="<IMG_CONTEXT>", end_image_token="</img>", image_seq_length=4
    )
    video = InternVLProcessor.replace_video_token(stock, {"pixel_values_videos": [torch.zeros(3, 3, 56, 56)]}, 0)
    published = dataclasses.replace(answerer, images=PUBLISHED)
    assert turn(published, ASKED[1]) == f"{video}\nWhy?"
    assert published.limits().time_told.startswith("not told")


def stock_pixels(asked: AnswerRequest) -> torch.Tensor:
    from PIL import Image
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    stock = GotOcr2ImageProcessorPil(
        size={"height": 56, "width": 56}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    )
    images = [Image.fromarray(frame.pixels) for frame in asked.frames]
    pixels: torch.Tensor = stock(images=images, crop_to_patches=False, return_tensors="pt")["pixel_values"]
    return pixels


def test_pixels_are_one_tile_a_frame_whatever_its_shape(answerer: InternVL) -> None:
    shapes = ((5, 7), (1, 1), (3, 90), (161, 89), (56, 56), (360, 641))
    odd = [request("Why?", frames(0.0, height=height, width=width)) for height, width in shapes]
    for asked in [*ASKED, *odd]:
        prompt = answerer.encode(asked)
        pixels = answerer.model.arguments(prompt, prompt.tokens)["pixel_values"]
        assert torch.equal(pixels, stock_pixels(asked))
        assert len(pixels) == len(asked.frames)


def test_answers_are_those_of_stock_generate(answerer: InternVL) -> None:
    network, tokenizer = answerer.model.network, answerer.processor.tokenizer
    for asked in ASKED:
        ids = torch.from_numpy(answerer.encode(asked).input_ids)[None]
        with torch.inference_mode():
            output = network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=stock_pixels(asked),
                do_sample=False,
                repetition_penalty=1.0,
                max_new_tokens=8,
            )
        expected = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        assert answered(answerer, [asked])[0].text.strip() == expected.strip()


def test_an_answer_is_the_same_alone_and_in_any_batch(answerer: InternVL) -> None:
    together = answered(answerer, ASKED)
    for asked, answer in zip(ASKED, together, strict=True):
        (alone,) = answered(answerer, [asked])
        assert (alone.text, alone.status) == (answer.text, answer.status)
        assert answer.frame_times == tuple(frame.time for frame in asked.frames)
        assert answer.cost.prompt_tokens == len(answerer.encode(asked).input_ids)
        assert answer.form.startswith("images of 56 x 56 pixels; time: text before each image")
    assert [answer.text for answer in answered(answerer, ASKED[::-1])] == [answer.text for answer in together[::-1]]


def test_pictures_and_their_times_reach_the_model(answerer: InternVL) -> None:
    def says(*times: float, seed: int = 0) -> str:
        return answered(answerer, [request("Why?", frames(*times, seed=seed))])[0].text

    assert len({says(0.0, 1.0, seed=seed) for seed in range(3)}) > 1
    assert len({says(0.0, time) for time in (1.0, 50.0, 1000.0)}) > 1


def test_limits_hold_for_what_a_request_really_takes(answerer: InternVL) -> None:
    limits = answerer.limits()
    one, two = (len(answerer.encode(request("Why?", frames(*times))).input_ids) for times in ((9e3,), (9e3, 9001.0)))
    assert limits.context_tokens == 32768
    assert 4 < two - one <= limits.tokens_per_frame


def test_markers_in_a_question_are_refused(answerer: InternVL) -> None:
    for marker in ("<img>", "<IMG_CONTEXT>", "<|im_end|>"):
        (answer,) = answered(answerer, [request(f"What is {marker}?", frames(0.0))])
        assert answer.status is Status.INVALID_QUESTION
        assert marker in answer.detail


def test_other_models_are_named(tmp_path: Path, answerer: InternVL) -> None:
    other = tiny.write_qwen2_vl(tmp_path)
    wrong = dataclasses.replace(answerer, checkpoint=dataclasses.replace(answerer.checkpoint, source=str(other)))
    for call in (wrong.limits, lambda: answered(wrong, ASKED)):
        with pytest.raises(CheckpointError, match="model_type is qwen2_vl"):
            call()
    (other / "config.json").write_text(json.dumps({"model_type": "internvl_chat"}))
    with pytest.raises(CheckpointError, match=r"(?s)authors' code.*InternVL3-8B-hf"):
        answered(wrong, ASKED)


@pytest.mark.parametrize(("key", "value"), [("image_mean", [0.5, 0.5, 0.5]), ("size", {"height": 384, "width": 384})])
def test_image_settings_of_another_model_are_refused(
    tmp_path: Path, answerer: InternVL, key: str, value: object
) -> None:
    folder = tiny_internvl.write_internvl(tmp_path)
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    wrong = dataclasses.replace(answerer, checkpoint=dataclasses.replace(answerer.checkpoint, source=str(folder)))
    with pytest.raises(CheckpointError, match=r"image_mean|384"):
        answered(wrong, ASKED)


def test_the_identity_follows_what_decides_answers_and_not_what_decides_speed(answerer: InternVL) -> None:
    checkpoint = answerer.checkpoint
    same = [
        dataclasses.replace(answerer, name="other"),
        dataclasses.replace(answerer, checkpoint=dataclasses.replace(checkpoint, device="auto", attention="eager")),
    ]
    other = [
        dataclasses.replace(answerer, images=PUBLISHED),
        dataclasses.replace(answerer, system="Be brief."),
        dataclasses.replace(answerer, max_new_tokens=9),
    ]
    assert all(each.identity() == answerer.identity() for each in same)
    assert all(each.identity() != answerer.identity() for each in other)


def test_a_label_that_cannot_be_filled_in_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"(?s)label='\{second\}'.*\{frame\} and \{time\}"):
        configured(InternVL, "internvl3_8b", "answerer.images.label='{second}'")


@pytest.mark.parametrize("lost", ["lm_head.weight", "embed_tokens.weight"])
def test_a_copy_that_lost_its_head_or_its_words_is_refused_by_name(folder: Path, tmp_path: Path, lost: str) -> None:
    """Where the config says nothing, transformers takes the one for the other."""
    from safetensors.torch import load_file, save_file

    from pipeline.families.internvl.model import load_internvl
    from pipeline.families.internvl.processor import open_processor

    def network(checkpoint: Checkpoint) -> Any:
        return load_internvl(checkpoint, open_processor(checkpoint, PUBLISHED, None)).network

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    del config["tie_word_embeddings"], config["text_config"]["tie_word_embeddings"]
    (copy / "config.json").write_text(json.dumps(config))
    checkpoint = Checkpoint(str(copy), None, "auto", "sdpa", "cpu")
    head, words = network(checkpoint).get_output_embeddings(), network(checkpoint).get_input_embeddings()
    assert not torch.equal(head.weight, words.weight)
    kept = {name: tensor for name, tensor in load_file(copy / "model.safetensors").items() if not name.endswith(lost)}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"holds no {lost}, .* does not say tie_word_embeddings: true"):
        network(checkpoint)
    (copy / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    tied = network(checkpoint)
    assert tied.get_output_embeddings().weight is tied.get_input_embeddings().weight
