from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from pipeline.errors import ConfigError
from pipeline.models.chat import IMAGE, VIDEO, load_tokenizer, render_chat, text
from pipeline.models.qwen_family import IMAGE_PAD
from pipeline.models.qwen_inputs import collate, encode
from pipeline.models.qwen_pixels import FrameScale, image_patches, load_image_processor, video_patches


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_qwen2_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def patches(folder: Path) -> Any:
    pictures = [np.full((height, 56, 3), 100, np.uint8) for height in (56, 84)]
    return image_patches(load_image_processor(folder), pictures, FrameScale(784, 12544, None))


def test_each_placeholder_stands_as_often_as_its_picture_has_tokens(tokenizer: Any, patches: Any) -> None:
    prompt = render_chat(tokenizer, [text("1: "), IMAGE, text("2: "), IMAGE, text("Why?")])
    encoded = encode(tokenizer, prompt, images=patches)
    first, _, rest = prompt.partition(IMAGE_PAD)
    second, _, last = rest.partition(IMAGE_PAD)
    # As the stock processor does it: in the text, before the tokenizer.
    whole = first + IMAGE_PAD * 4 + second + IMAGE_PAD * 6 + last
    assert encoded.input_ids.tolist() == tokenizer(whole).input_ids
    assert int((encoded.mm_token_type_ids == 1).sum()) == 10


def test_a_prompt_text_that_holds_a_placeholder_of_its_own_is_refused(tokenizer: Any, patches: Any) -> None:
    prompt = render_chat(tokenizer, [IMAGE, IMAGE, text(f"Look at {IMAGE_PAD}")])
    with pytest.raises(ConfigError, match=r"holds <\|image_pad\|> 3 times for 2 pictures"):
        encode(tokenizer, prompt, images=patches)


def test_a_batch_is_padded_on_the_left_and_keeps_the_order_of_its_pictures(tokenizer: Any, patches: Any) -> None:
    images = encode(tokenizer, render_chat(tokenizer, [IMAGE, IMAGE, text("Why is it so?")]), images=patches)
    film = video_patches(type(patches)(patches.values[:16], patches.grids[:1]), [(0, 0)])
    video = encode(tokenizer, render_chat(tokenizer, [VIDEO, text("Why?")]), video=film)
    batch = collate([video, images], pad=7)
    short = images.tokens - video.tokens
    assert batch["input_ids"][0, :short].tolist() == [7] * short
    assert batch["attention_mask"][0].tolist() == [0] * short + [1] * video.tokens
    assert batch["input_ids"][0, short:].tolist() == video.input_ids.tolist()
    assert batch["mm_token_type_ids"][0, short:].tolist() == video.mm_token_type_ids.tolist()
    assert batch["attention_mask"][1].all()
    assert torch.equal(batch["pixel_values"], patches.values)
    assert batch["video_grid_thw"].tolist() == [[1, 4, 4]]
