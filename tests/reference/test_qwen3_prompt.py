"""The prompt of Qwen3-VL beside what its processor made of a video when the checkpoints came out (transformers 4.57).

The tokens lie outside of this repository: GENS_FIXTURES names the folder that holds ``qwen-4.57``. The test here skips
where it is not set; ``tests/families/qwen/test_qwen3_vl.py`` has a small case for everybody.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_qwen3_vl
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from wordings import wording

from pipeline.domain import Frame, Question
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.qwen.model import VideoPatches
from pipeline.families.qwen.processor import FrameScale3, TimedVideoForm, open_processor
from pipeline.families.seam import Words


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    root = os.environ.get("GENS_FIXTURES")
    if root is None:
        pytest.skip("GENS_FIXTURES does not name the folder with the tokens of transformers 4.57")
    found = json.loads((Path(root) / "qwen-4.57" / "qwen3_prompt.json").read_text())
    assert isinstance(found, dict)
    return found


def toy_tokenizer(tokens: list[str]) -> Any:
    """Words of the expected prompt, digits and punctuation one by one; the chat has no turns."""
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(["[UNK]", *tokens, "<|image_pad|>"]))}
    toy = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    toy.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)]
    )
    toy.add_special_tokens([AddedToken(word, normalized=False) for word in vocabulary if word.startswith("<|")])
    template = (
        "{% for content in messages[-1]['content'] %}{% if content['type'] == 'video' %}"
        "<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ content['text'] }}{% endif %}{% endfor %}"
    )
    return PreTrainedTokenizerFast(tokenizer_object=toy, chat_template=template)


def test_token_for_token(expected: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny_qwen3_vl.write_qwen3_vl(tmp_path)
    checkpoint = Checkpoint(str(folder), None, "float32", "sdpa", "cpu")
    [[grids, rows, columns]] = expected["grid"]
    side = expected["patch_size"]
    scale, form = FrameScale3(4096, 8192, (rows * side, columns * side)), TimedVideoForm(10.0, "strip")
    opened = open_processor(checkpoint, scale, form, None)
    processor = replace(opened, tokenizer=toy_tokenizer(expected["tokens"]))
    film = expected["video_metadata"]
    dice = np.random.default_rng(0)
    shown = [
        Frame(index / film["fps"], index, dice.integers(0, 256, (*expected["frame_size_hw"], 3), np.uint8))
        for index in film["frames_indices"]
    ]
    words = Words(wording().render(Question("q", "clip.mp4", " q", None)))
    prompt = processor.prompt(processor.prepared(shown), shown, words)
    assert processor.tokenizer.convert_ids_to_tokens(prompt.input_ids.tolist()) == expected["tokens"]
    made = VideoPatches(processor.levels, scale.unit).video_grids(prompt.frames, form.grids(prompt.times))
    assert made.tolist() == [[1, rows, columns]] * grids


def test_the_size_of_a_frame_is_the_videos(expected: dict[str, Any]) -> None:
    """4.57 shares the whole video's pixels among its frames, one more where their number is odd."""
    share = expected["size"]["longest_edge"] // expected["frames"]
    [[_, rows, columns]] = expected["grid"]
    height, width = FrameScale3(4096, share, None).size(*expected["frame_size_hw"])
    assert [height // 16, width // 16] == [rows, columns]
