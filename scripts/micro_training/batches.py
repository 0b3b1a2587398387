"""Samples to arrays: the very token ids, positions and picture places that the pipeline's own code makes of them.

Tokens are put together from pieces that the tokenizer never joins; a test compares with the pipeline's one-piece call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer

from pipeline.benchmarks.micro.questions import KINDS as QUESTION_KINDS
from pipeline.benchmarks.micro.world import COLORS, SHAPES, Event
from pipeline.domain import Question
from scripts.micro_training.models import Kind, wording
from scripts.micro_training.pictures import FIELDS, describe
from scripts.micro_training.samples import WINDOW, Sample, request_sample, window_sample

PAD_LABEL = -100
HEADS = {
    "color": len(COLORS) + 1,
    "shape": len(SHAPES) + 1,
    "last_color": len(COLORS) + 1,
    "last_shape": len(SHAPES) + 1,
    "first": 3,
    "times": 6,
    "number": WINDOW,
}
"""What the auxiliary heads tell of a frame, from the token after its picture: its thing, the thing before that one,
whether the frame is an event's first, which occurrence of its thing it is, and its place in the window."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a batch's arrays."""

    samples: int
    frames: int
    tokens: int
    answers: int
    """Tokens of all answers of a sample."""
    questions: int


SHAPES_OF: dict[str, Shape] = {
    "gens_micro": Shape(128, WINDOW, 768, 128, 4),
    "qwen2_vl_micro": Shape(128, 32, 512, 5, 1),
    "llava_onevision_micro": Shape(96, 32, 864, 5, 1),
}


class Writer:
    """Writes samples of one kind of model into batches."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.qwen = kind != "llava_onevision_micro"
        self.picture = 4 if self.qwen else 17
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._words = wording()
        self.pieces = lru_cache(maxsize=100_000)(self._pieces)
        self._turn = self.pieces("<|im_start|>user\n")
        self._end = self.pieces("<|im_end|>")
        self._asking = "<|im_end|>\n<|im_start|>assistant\n"

    def _pieces(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int64)

    def prefix(self, labels: list[str], after: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frames with their labels: ids, places of the pictures' first tokens, places just after the pictures."""
        parts, starts = [self._turn], []
        length = len(self._turn)
        token = self._tokenizer.token_to_id("<|image_pad|>" if self.qwen else "<image>")
        before = self.pieces("<|vision_start|>") if self.qwen else self.pieces("")
        behind = np.concatenate([self.pieces("<|vision_end|>") if self.qwen else self.pieces(""), self.pieces(after)])
        pads = np.full(self.picture, token)
        for label in labels:
            words = self.pieces(label)
            starts.append(length + len(words) + len(before))
            parts += [words, before, pads, behind]
            length += len(words) + len(before) + self.picture + len(behind)
        places = np.array(starts, np.int64)
        return np.concatenate(parts), places, places + self.picture

    def sampler_prefix(self, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The frames of a window."""
        prompt = self._words.sampler
        labels = [prompt.label.replace("{number}", str(prompt.first_number + n)) for n in range(frames)]
        return self.prefix(labels, prompt.after_image)

    def sampler_question(self, text: str) -> np.ndarray:
        """What follows the frames, up to the answer."""
        prompt = self._words.sampler
        return self.pieces(prompt.question.replace("{question}", text) + prompt.instruction + self._asking)

    def answerer_prefix(self, seconds: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The selected frames with their times."""
        return self.prefix([self._words.label.format(time=second) for second in seconds], self._words.after)

    def answerer_question(self, question: Question) -> np.ndarray:
        """What follows the frames, up to the answer."""
        lines = (self._words.answerer.render(question) + self._asking).splitlines(keepends=True)
        return np.concatenate([self.pieces(line) for line in lines])

    def positions(self, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """``[3, L]``; in Qwen's M-RoPE a picture of 2 x 2 tokens takes two positions."""
        if not self.qwen:
            return np.broadcast_to(np.arange(len(ids)), (3, len(ids)))
        step = np.ones(len(ids), np.int64)
        step[0] = 0
        for offset, value in ((1, 0), (2, 0), (3, 0), (4, 2)):
            step[starts + offset] = value
        found = np.repeat(np.cumsum(step)[None], 3, 0)
        found[1][starts + 2] += 1
        found[1][starts + 3] += 1
        found[2][starts + 1] += 1
        found[2][starts + 3] += 1
        return found

    def batch(self, random: Random, shape: Shape) -> dict[str, np.ndarray]:
        """A whole batch, drawn from ``random``."""
        arrays = {
            "ids": np.zeros((shape.samples, shape.tokens), np.int64),
            "positions": np.zeros((3, shape.samples, shape.tokens), np.int64),
            "segment": np.full((shape.samples, shape.tokens), -1, np.int64),
            "picture": np.full((shape.samples, shape.frames), shape.tokens, np.int64),
            "behind": np.full((shape.samples, shape.frames), 0, np.int64),
            "frames": np.zeros((shape.samples, shape.frames, FIELDS), np.int32),
            "facts": np.full((shape.samples, shape.frames, len(HEADS)), PAD_LABEL, np.int64),
            "spot": np.zeros((shape.samples, shape.answers), np.int64),
            "label": np.full((shape.samples, shape.answers), PAD_LABEL, np.int64),
            "of": np.zeros((shape.samples, shape.answers), np.int64),
            "kind": np.full((shape.samples, shape.questions), -1, np.int64),
        }
        arrays["frames"][..., 1] = -1
        for row in range(shape.samples):
            self._write(random, shape, arrays, row)
        return arrays

    def _write(self, random: Random, shape: Shape, arrays: dict[str, np.ndarray], row: int) -> None:
        if self.kind == "gens_micro":
            sample = window_sample(random, shape.questions)
            prefix, starts, behind = self._window_prefix(len(sample.events))
            asking = [self.sampler_question(asked.text) for asked in sample.asked]
        else:
            sample, question = request_sample(random, shape.frames)
            prefix, starts, behind = self.answerer_prefix(sample.seconds)
            asking = [self.answerer_question(question)]
        frames, length = len(sample.events), len(prefix)
        positions = self.positions(prefix, starts)
        arrays["ids"][row, :length] = prefix
        arrays["positions"][:, row, :length] = positions
        arrays["segment"][row, :length] = 0
        arrays["picture"][row, :frames] = starts
        arrays["behind"][row, :frames] = behind
        arrays["frames"][row, :frames] = describe(sample.events, sample.seconds, sample.scenes)
        arrays["facts"][row, :frames] = facts(sample)
        position, written = positions.max() + 1, 0
        for number, (words, asked) in enumerate(zip(asking, sample.asked, strict=True)):
            answer = np.concatenate([self.pieces(asked.answer), self._end])
            total = len(words) + len(answer)
            if length + total > shape.tokens or written + len(answer) > shape.answers:
                break
            arrays["ids"][row, length : length + total] = np.concatenate([words, answer])
            arrays["positions"][:, row, length : length + total] = np.arange(position, position + total)
            arrays["segment"][row, length : length + total] = number + 1
            spots = slice(written, written + len(answer))
            arrays["spot"][row, spots] = np.arange(length + len(words) - 1, length + total - 1)
            arrays["label"][row, spots] = answer
            arrays["of"][row, spots] = number
            arrays["kind"][row, number] = QUESTION_KINDS.index(asked.kind)
            length, written = length + total, written + len(answer)

    @lru_cache(maxsize=WINDOW)  # noqa: B019  one writer lives as long as its process
    def _window_prefix(self, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.sampler_prefix(frames)


def facts(sample: Sample) -> np.ndarray:
    """The auxiliary heads' labels: ``[frames, heads]``, in the order of :data:`HEADS`."""
    rows = np.zeros((len(sample.events), len(HEADS)), np.int64)
    current: Event | None = None
    last: Event | None = None
    seen: dict[object, int] = {}
    for place, event in enumerate(sample.events):
        first = 0
        if event is not None:
            first = 2
            if event is not current:
                first = 1
                current, last = event, current
                seen[event.thing] = seen.get(event.thing, 0) + 1
        shown = last if event is not None else current
        rows[place] = (
            0 if event is None else 1 + COLORS.index(event.thing.color),
            0 if event is None else 1 + SHAPES.index(event.thing.shape),
            0 if shown is None else 1 + COLORS.index(shown.thing.color),
            0 if shown is None else 1 + SHAPES.index(shown.thing.shape),
            first,
            0 if event is None else min(seen[event.thing], 5),
            place,
        )
    return rows


class Stream(torch.utils.data.IterableDataset):
    """Batches without end, other ones in every worker."""

    def __init__(self, kind: Kind, folder: Path, shape: Shape, seed: str) -> None:
        self._what = (kind, folder, shape, seed)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        kind, folder, shape, seed = self._what
        worker = torch.utils.data.get_worker_info()
        random = Random(f"{seed}/{kind}/{worker.id if worker else 0}")
        writer = Writer(kind, folder)
        while True:
            yield {name: torch.from_numpy(array) for name, array in writer.batch(random, shape).items()}
