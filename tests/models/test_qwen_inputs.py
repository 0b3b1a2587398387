from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from pipeline.errors import ConfigError
from pipeline.models.chat import IMAGE, load_tokenizer, render_chat, text
from pipeline.models.qwen_family import IMAGE_PAD
from pipeline.models.qwen_inputs import arguments, encode
from pipeline.models.qwen_pixels import FrameScale, image_patches, load_image_processor

pytestmark = pytest.mark.moving


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


def test_the_beginning_of_a_prompt_keeps_all_of_its_pictures(tokenizer: Any, patches: Any) -> None:
    prompt = encode(tokenizer, render_chat(tokenizer, [IMAGE, IMAGE, text("Why is it so?")]), images=patches)
    given = arguments(prompt, prompt.tokens - 3)
    assert given["input_ids"].tolist() == [prompt.input_ids.tolist()[:-3]]
    assert given["mm_token_type_ids"].tolist() == [prompt.mm_token_type_ids.tolist()[:-3]]
    assert torch.equal(given["pixel_values"], patches.values)
    assert torch.equal(given["image_grid_thw"], patches.grids)
