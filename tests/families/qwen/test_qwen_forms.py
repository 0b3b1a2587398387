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

from pipeline.domain import Frame
from pipeline.families.chat import IMAGE, VIDEO, FrameLabels, render_chat, text
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.qwen.model import QwenModel, load_qwen, rope_index, true_times
from pipeline.families.qwen.processor import (
    FrameScale,
    ImagesForm,
    QwenForm,
    QwenProcessor,
    VideoForm,
    load_image_processor,
    open_processor,
)
from pipeline.families.seam import Words

pytestmark = pytest.mark.moving

SIDES = (56, 84)  # resized by neither: torchvision's bicubic differs from Pillow's in single grey levels
FPS = 25.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_qwen2_5_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def processor(folder: Path) -> QwenProcessor:
    checkpoint = Checkpoint(str(folder), None, "float32", "sdpa", "cpu")
    form = ImagesForm(FrameLabels("{time:.1f}s: ", "\n"))
    return open_processor(checkpoint, FrameScale(3136, 12544, None), form, None)


@pytest.fixture(scope="module")
def network(folder: Path, processor: QwenProcessor) -> Any:
    return load_qwen(Checkpoint(str(folder), None, "float32", "sdpa", "cpu"), processor).network


def given(processor: QwenProcessor, network: Any, form: QwenForm, frames: Sequence[Frame]) -> dict[str, torch.Tensor]:
    """The arguments of the network's forward."""
    other = dataclasses.replace(processor, form=form)
    prompt = other.prompt(other.prepared(frames), frames, Words("Why?"))
    arguments = QwenModel(network, other).arguments(prompt, prompt.tokens)
    return {**arguments, "attention_mask": torch.ones_like(arguments["input_ids"])}


@pytest.fixture(scope="module")
def stock(folder: Path, processor: QwenProcessor) -> Any:
    pytest.importorskip("torchvision", reason="the stock processors need torchvision", exc_type=ImportError)
    from transformers import Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    return Qwen2_5_VLProcessor(load_image_processor(folder), processor.tokenizer, Qwen2VLVideoProcessor())


def filmed(*times: float) -> list[Frame]:
    random = np.random.default_rng(0)
    return [Frame(time, round(time * FPS), random.integers(0, 256, (*SIDES, 3), dtype=np.uint8)) for time in times]


def test_the_image_form_is_the_stock_processors(stock: Any, processor: QwenProcessor, network: Any) -> None:
    frames = filmed(0.0, 7.5, 100.0)
    ours = given(processor, network, processor.form, frames)
    content: list[Any] = []
    for frame in frames:
        content += [text(f"{frame.time:.1f}s: "), IMAGE, text("\n")]
    theirs = stock(
        text=[render_chat(processor.tokenizer, [*content, text("Why?")])],
        images=[frame.pixels for frame in frames],
        return_tensors="pt",
    )
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name].to(tensor.dtype)), name


def test_the_video_form_is_the_stock_processors_where_frames_are_evenly_spaced(
    stock: Any, processor: QwenProcessor, network: Any
) -> None:
    frames = filmed(0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    form = VideoForm(1.0)
    ours = given(processor, network, form, frames)
    theirs = stock(
        text=[render_chat(processor.tokenizer, [VIDEO, text("Why?")])],
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

    kinds = {name: ours[name] for name in ("mm_token_type_ids", "video_grid_thw", "attention_mask")}
    evenly = rope_index(network.model, ours["input_ids"], second_per_grid_ts=torch.as_tensor(seconds), **kinds)
    with true_times(network, [form.grids([frame.time for frame in frames]).times]):
        true = network.model.get_rope_index(ours["input_ids"], **kinds)
    assert torch.equal(evenly[0], true[0])


def test_a_frame_is_not_blended_with_one_a_minute_later(processor: QwenProcessor, network: Any) -> None:
    near, far = (given(processor, network, VideoForm(2.0), filmed(0.0, second)) for second in (1.0, 60.0))
    assert near["video_grid_thw"].tolist() == [[1, 4, 6]]
    assert far["video_grid_thw"].tolist() == [[2, 4, 6]]
    lone = given(processor, network, ImagesForm(FrameLabels("", "")), filmed(0.0, 60.0))
    assert torch.equal(far["pixel_values_videos"], lone["pixel_values"])
