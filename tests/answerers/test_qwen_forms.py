"""Our inputs beside those of transformers' own processors, where torchvision lets these be imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from pipeline.answerers.labels import FrameLabels
from pipeline.answerers.prompts import Words
from pipeline.answerers.qwen_forms import ImagesForm, QwenForm, VideoForm
from pipeline.answerers.qwen_reader import QwenReader
from pipeline.domain import Frame
from pipeline.models.chat import IMAGE, VIDEO, render_chat, text
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.qwen_family import load_qwen
from pipeline.models.qwen_inputs import QwenInputs, arguments
from pipeline.models.qwen_pixels import FrameScale
from pipeline.models.qwen_positions import rope_index, true_times

pytestmark = pytest.mark.moving

SIDES = (56, 84)  # resized by neither: torchvision's bicubic differs from Pillow's in single grey levels
FPS = 25.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_qwen2_5_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def reader(folder: Path) -> QwenReader:
    checkpoint = Checkpoint(str(folder), None, "float32", "sdpa", "cpu")
    form = ImagesForm(FrameLabels("{time:.1f}s: ", "\n"))
    return QwenReader.open(checkpoint, FrameScale(3136, 12544, None), form, None)


def told(reader: QwenReader, form: QwenForm, frames: Sequence[Frame]) -> QwenInputs:
    other = dataclasses.replace(reader, form=form)
    return other.encode(other.pixels(frames), frames, Words("Why?"))


@pytest.fixture(scope="module")
def stock(reader: QwenReader) -> Any:
    pytest.importorskip("torchvision", reason="the stock processors need torchvision", exc_type=ImportError)
    from transformers import Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    return Qwen2_5_VLProcessor(reader.processor, reader.tokenizer, Qwen2VLVideoProcessor())


def filmed(*times: float) -> list[Frame]:
    random = np.random.default_rng(0)
    return [Frame(time, round(time * FPS), random.integers(0, 256, (*SIDES, 3), dtype=np.uint8)) for time in times]


def whole(encoded: QwenInputs) -> dict[str, torch.Tensor]:
    return {**arguments(encoded, encoded.tokens), "attention_mask": torch.ones_like(encoded.input_ids)[None]}


def test_the_image_form_is_the_stock_processors(stock: Any, reader: QwenReader) -> None:
    frames = filmed(0.0, 7.5, 100.0)
    encoded = reader.encode(reader.pixels(frames), frames, Words("Why?"))
    ours = whole(encoded)
    content: list[Any] = []
    for frame in frames:
        content += [text(f"{frame.time:.1f}s: "), IMAGE, text("\n")]
    theirs = stock(
        text=[render_chat(reader.tokenizer, [*content, text("Why?")])],
        images=[frame.pixels for frame in frames],
        return_tensors="pt",
    )
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name].to(tensor.dtype)), name


def test_the_video_form_is_the_stock_processors_where_frames_are_evenly_spaced(
    stock: Any, reader: QwenReader, folder: Path
) -> None:
    frames = filmed(0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    encoded = told(reader, VideoForm(1.0), frames)
    ours = whole(encoded)
    theirs = stock(
        text=[render_chat(reader.tokenizer, [VIDEO, text("Why?")])],
        videos=[np.stack([frame.pixels for frame in frames])],
        video_metadata=[
            {
                "total_num_frames": 150,
                "fps": FPS,
                "duration": 6.0,
                "frames_indices": [frame.index for frame in frames],
                "height": SIDES[0],
                "width": SIDES[1],
            }
        ],
        do_sample_frames=False,
        do_resize=False,
        return_tensors="pt",
    )
    seconds = theirs.pop("second_per_grid_ts")
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name].to(tensor.dtype), atol=1e-5), name

    model = load_qwen(Checkpoint(str(folder), None, "float32", "sdpa", "cpu"))
    kinds = {name: ours[name] for name in ("mm_token_type_ids", "video_grid_thw", "attention_mask")}
    evenly = rope_index(model.model, ours["input_ids"], second_per_grid_ts=torch.as_tensor(seconds), **kinds)
    with true_times(model, [encoded.grid_times]):
        true = model.model.get_rope_index(ours["input_ids"], **kinds)
    assert torch.equal(evenly[0], true[0])


def test_a_frame_is_not_blended_with_one_a_minute_later(reader: QwenReader) -> None:
    near, far = (told(reader, VideoForm(2.0), filmed(0.0, second)) for second in (1.0, 60.0))
    assert near.video is not None
    assert far.video is not None
    assert near.video.grids.tolist() == [[1, 4, 6]]
    assert far.video.grids.tolist() == [[2, 4, 6]]
    lone = told(reader, ImagesForm(FrameLabels("", "")), filmed(0.0, 60.0))
    assert lone.images is not None
    assert torch.equal(far.video.values, lone.images.values)
