from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from pipeline.errors import ConfigError
from pipeline.families.chat import IMAGE, FrameLabels, render_chat, text
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.qwen.model import load_qwen
from pipeline.families.qwen.processor import IMAGE_PAD, FrameScale, ImagesForm, QwenProcessor, open_processor
from pipeline.families.seam import PreparedFrame, Prompt, Turn

pytestmark = pytest.mark.moving


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder: Path = tiny.write_qwen2_vl(tmp_path_factory.mktemp("qwen"))
    return Checkpoint(str(folder), None, "float32", "sdpa", "cpu")


@pytest.fixture(scope="module")
def processor(checkpoint: Checkpoint) -> QwenProcessor:
    return open_processor(checkpoint, FrameScale(784, 12544, None), ImagesForm(FrameLabels("", "")), None)


@pytest.fixture(scope="module")
def frames(processor: QwenProcessor) -> tuple[PreparedFrame, ...]:
    return tuple(processor.prepare(np.full((height, 56, 3), 100, np.uint8)) for height in (56, 84))


def test_each_placeholder_stands_as_often_as_its_picture_has_tokens(
    processor: QwenProcessor, frames: tuple[PreparedFrame, ...]
) -> None:
    content = [text("1: "), IMAGE, text("2: "), IMAGE, text("Why?")]
    ids = processor.encode(Turn(content), [frame.shape.tokens for frame in frames])
    first, _, rest = render_chat(processor.tokenizer, content).partition(IMAGE_PAD)
    second, _, last = rest.partition(IMAGE_PAD)
    # As the stock processor does it: in the text, before the tokenizer.
    whole = first + IMAGE_PAD * 4 + second + IMAGE_PAD * 6 + last
    assert ids == processor.tokenizer(whole).input_ids
    assert ids.count(processor.picture_token) == 10


def test_the_halves_of_a_prompt_are_its_tokens(processor: QwenProcessor, frames: tuple[PreparedFrame, ...]) -> None:
    turn, shapes = Turn([text("1: "), IMAGE, text("2: "), IMAGE, text("Why?")]), [frame.shape for frame in frames]
    head, tail = processor.halves(turn, shapes)
    assert head + tail == processor.encode(turn, [4, 6])
    assert head[-1] == processor.picture_token
    assert processor.picture_token not in tail


def test_a_prompt_text_that_holds_a_placeholder_of_its_own_is_refused(processor: QwenProcessor) -> None:
    with pytest.raises(ConfigError, match=r"holds <\|image_pad\|> 3 times for 2 pictures"):
        processor.encode(Turn([IMAGE, IMAGE, text(f"Look at {IMAGE_PAD}")]), [4, 6])


def test_the_beginning_of_a_prompt_keeps_all_of_its_pictures(
    checkpoint: Checkpoint, processor: QwenProcessor, frames: tuple[PreparedFrame, ...]
) -> None:
    ids = np.array(processor.encode(Turn([IMAGE, IMAGE, text("Why is it so?")]), [4, 6]))
    prompt = Prompt(ids, frames, processor.frames_end(ids))
    model = load_qwen(checkpoint, processor)
    whole, given = (model.arguments(prompt, length) for length in (prompt.tokens, prompt.tokens - 3))
    assert given["input_ids"].tolist() == [ids.tolist()[:-3]]
    assert given["mm_token_type_ids"].tolist() == [whole["mm_token_type_ids"][0].tolist()[:-3]]
    assert torch.equal(given["pixel_values"], whole["pixel_values"])
    assert given["image_grid_thw"].tolist() == [[1, 4, 4], [1, 6, 4]]
