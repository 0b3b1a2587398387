"""Cells of stage 2: 7B answerers, each question about frames of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.answerers import AnswerRequest
from pipeline.domain import Frame, Question, Video
from pipeline.generation.limits import OutputLimits
from scripts.speed import stock
from scripts.speed.cells import Cell, Store
from scripts.speed.checkpoints import write_checkpoint
from scripts.speed.floors import Load, Weights, floor_seconds, weights_of
from scripts.speed.machine import Machine, free_memory, measured
from scripts.speed.scale import Scale
from scripts.speed.settings import built
from scripts.speed.shapes import shape_of
from scripts.speed.weights import RandomWeights

ANSWERERS = ("qwen2_vl_7b", "llava_video_7b")
# Of a frame: 240 tokens of Qwen2-VL; the size of LLaVA-Video's tower.
_SIZES = {"qwen2_vl_7b": (336, 560), "llava_video_7b": (384, 384)}


class AnswererCells:
    """All cells of one answerer.

    Args:
        name: one of :data:`ANSWERERS`.
        scale: sizes.
        weights: in use.
        machine: for floors.
        store: of the cells.
        work: folder for checkpoints.
    """

    def __init__(
        self, name: str, scale: Scale, weights: RandomWeights, machine: Machine, store: Store, work: Path
    ) -> None:
        self._name, self._scale, self._weights, self._machine, self._store = name, scale, weights, machine, store
        folder = write_checkpoint(work / name, shape_of(name, scale.tiny))
        words = (f"answerer={name}", f"answerer.checkpoint.source={folder}")
        self._answerer = built("evaluate", "answerer", *words)

    def measure(self) -> None:
        """Measure stock, then ours, where they are left."""
        scale, name = self._scale, self._name
        stock_left, left = (
            self._store.open([Cell(who, name, 0, asked, tokens, scale.shown) for tokens in scale.answers])
            for who, asked in (("stock", scale.stock_asked), ("ours", scale.asked))
        )
        if not stock_left and not left:
            return
        prompts = [self._answerer.encode(self._request(number)) for number in range(scale.asked)]
        counts: list[Weights] = []

        def when_made(network: Any) -> None:
            counts.append(weights_of(network))
            for cell in stock_left:
                self._store.measure(cell, lambda cell: self._with_stock(cell, network, prompts))
                free_memory()

        with self._store.or_reason([*stock_left, *left]):
            self._weights.when_made = when_made
            _ = self._answerer.model
            if left:
                self._written(prompts[:2], OutputLimits(2))  # warms up
            for cell in left:
                self._store.measure(cell, lambda cell: self._with_ours(cell, prompts, counts[0]))
        self._answerer.close()
        free_memory()

    def _with_ours(self, cell: Cell, prompts: Sequence[Any], counts: Weights) -> Cell:
        limits = OutputLimits(cell.tokens)

        def work() -> None:
            for written in self._written(prompts, limits):
                if len(written.tokens) != cell.tokens:
                    raise RuntimeError(f"an answer ended after {len(written.tokens)} of {cell.tokens} tokens")

        found = measured(work, self._weights.device, profiles=cell.tokens == self._scale.answers[0])
        first, shape = prompts[0], prompts[0].frames[0].shape
        length = first.tokens
        # The last token of the prompt is what a row brings: nothing is shared among questions.
        load = Load(len(prompts), 1, cell.frames, shape.patches, shape.tokens, length - 1, 1, cell.tokens)
        floor = floor_seconds(counts, load, self._machine)
        return replace(cell.with_measured(found), floor=floor, prompt_tokens=length)

    def _written(self, prompts: Sequence[Any], limits: OutputLimits) -> list[Any]:
        """All texts of prompts that come at once."""
        writer = self._answerer.writer(self._answerer.model, limits)
        for number, prompt in enumerate(prompts):
            writer.add(str(number), prompt)
        found = []
        while len(writer):
            found += [outcome.result for _, outcome in writer.step()]
        return found

    def _with_stock(self, cell: Cell, network: Any, prompts: Sequence[Any]) -> Cell:
        picture = self._answerer.processor.picture_token
        shapes = [frame.shape for frame in prompts[0].frames]
        given = [
            stock.inputs(network, prompt.input_ids.tolist(), shapes, picture) for prompt in prompts[: cell.questions]
        ]
        stock.answer(network, given[:1], cell.tokens)  # warms up
        found = stock.measured_loop(network, given, cell.tokens, self._weights.device)
        return replace(cell.with_measured(found), prompt_tokens=prompts[0].tokens)

    def _request(self, number: int) -> AnswerRequest:
        height, width = _SIZES[self._name]
        dice, count = np.random.default_rng(number), self._scale.shown
        frames = tuple(
            Frame(float(second), second, dice.integers(0, 256, (height, width, 3), dtype=np.uint8))
            for second in range(count)
        )
        video = Video("none", "made", float(count), 1.0, count, width, height)
        text = "What does the person in the white coat put on the table after the bell has rung for the second time?"
        options = ("a book", "a cup of tea", "a telephone", "nothing at all")
        return AnswerRequest(Question(f"q{number}", "none", text, options), video, frames)
