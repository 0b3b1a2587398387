"""Questions to tiny checkpoints, and what stock transformers makes of the same questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_native
from asking import VIDEO, configured, frames

from pipeline.answerers import AnswerRequest
from pipeline.domain import Question
from pipeline.families.transformers.answerer import Transformers

TYPES = tuple(tiny_native.WRITERS)
TILES = {
    "internvl": {"crop_to_patches": False},
    "smolvlm": {"do_image_splitting": False},
    "minicpmv4_6": {"max_slice_nums": 1},
}
NEW = 8


@dataclass
class Folders:
    """Where each tiny checkpoint lies."""

    made: dict[str, Path]
    new: Callable[[], Path]

    def __getitem__(self, name: str) -> Path:
        if name == "smolvlm" and find_spec("num2words") is None:
            pytest.skip("SmolVLM's processor needs num2words: pip install 'gens-videoqa[any]'")
        if name not in self.made:
            self.made[name] = tiny_native.WRITERS[name](self.new())
        return self.made[name]

    def copy(self, name: str) -> Path:
        """Of its own, to be changed."""
        import shutil

        return Path(shutil.copytree(self[name], self.new() / "copy"))


def answerer(folder: Path, *overrides: str, name: str = "transformers") -> Transformers:
    given = [f"answerer.checkpoint.source={folder}", "answerer.checkpoint.device=cpu", f"answerer.max_new_tokens={NEW}"]
    return configured(Transformers, name, *given, *overrides)


def requests() -> list[AnswerRequest]:
    """Five questions about three sets of frames, of several sizes and numbers, in an order that mixes them."""
    first, second, third = frames(0.0, 4.0), frames(1.0, 2.5, 70.0, seed=1, height=160, width=90), frames(3.0, seed=2)
    mixed = (first[0], *frames(5.0, 9.0, seed=3, height=64, width=64))
    asked = [
        ("What colour is the square?", first, ("red", "blue")),
        ("Why?", second, None),
        ("Why?", first, None),
        ("What appears after the circle?", second, ("square", "circle", "frame")),
        ("One?", third, None),
        ("Which?", mixed, None),
    ]
    return [
        AnswerRequest(Question(f"q{place}", VIDEO.path, text, options), VIDEO, shown)
        for place, (text, shown, options) in enumerate(asked)
    ]


class Stock:
    """The type's own processor and ``generate``, as a model card calls them."""

    def __init__(self, folder: Path, name: str) -> None:
        from transformers import AutoModelForMultimodalLM, AutoProcessor

        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForMultimodalLM.from_pretrained(folder)
        self.tiles = TILES.get(name, {})

    def inputs(self, asked: AnswerRequest, text: str, **variables: Any) -> Any:
        from PIL import Image

        content: list[dict[str, Any]] = []
        for frame in asked.frames:
            content.append({"type": "text", "text": f"<{frame.time:.1f} seconds>"})
            content.append({"type": "image", "image": Image.fromarray(frame.pixels)})
        content.append({"type": "text", "text": text})
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
            processor_kwargs=dict(self.tiles),
            **variables,
        )

    def tokens(self, inputs: Any, new: int = NEW) -> list[int]:
        output = self.model.generate(**inputs, do_sample=False, repetition_penalty=1.0, max_new_tokens=new)
        tokens: list[int] = output[0, inputs["input_ids"].shape[1] :].tolist()
        return tokens
