"""Cells of stage 1 on frames that are decoded and resized already: GenS on Aria and on Qwen2.5-VL-3B."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.domain import Frame, PreparedPictures, Question, Status, Video
from pipeline.video.preparing import PreparedHere
from scripts.speed import stock
from scripts.speed.cells import Cell, Store
from scripts.speed.checkpoints import write_checkpoint
from scripts.speed.floors import Load, Weights, floor_seconds, weights_of
from scripts.speed.machine import Machine, free_memory, measured
from scripts.speed.scale import Scale
from scripts.speed.settings import built
from scripts.speed.shapes import shape_of
from scripts.speed.weights import RandomWeights

# As a frame of 16:9 comes out of each sampler's own resize, so that resizing it again changes nothing.
_SIZES = {"gens": (336, 490), "gens_3b": (112, 112)}
_DIFFERENT = 32
"""Pictures that repeat, so that an hour of them fits the memory."""


class DecodedFrames:
    """Videos of one frame a second that are in memory, and prepared for the model the first time they are shown."""

    def __init__(self, height: int, width: int) -> None:
        dice = np.random.default_rng(0)
        self._pictures = [dice.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(_DIFFERENT)]
        self._prepared: dict[int, Any] = {}

    def video(self, seconds: int) -> Video:
        """One of so many seconds."""
        height, width, _ = self._pictures[0].shape
        return Video("none", "made", float(seconds), 1.0, seconds, width, height)

    def prepared_at(self, seconds: Sequence[float], prepare: Callable[[Frame], Any]) -> PreparedPictures:
        """As :class:`pipeline.domain.PreparesPictures` has it: a worker process would have prepared them before."""

        def prepared(frame: Frame) -> Any:
            place = frame.index % _DIFFERENT
            if place not in self._prepared:
                self._prepared[place] = prepare(frame)
            return self._prepared[place]

        return PreparedHere(self.frames_at(seconds), prepared)

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        """The frame of each second."""
        for second in seconds:
            yield Frame(float(int(second)), int(second), self._pictures[int(second) % _DIFFERENT])

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        """Their numbers are their seconds."""
        return [int(second) for second in seconds]

    def times_of(self, indices: Sequence[int]) -> list[float]:
        """Likewise."""
        return [float(index) for index in indices]


class SamplerCells:
    """All cells of one sampler.

    Args:
        name: ``gens`` or ``gens_3b``.
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
        self.words = (
            f"sampler={name}",
            f"sampler.checkpoint.source={folder}",
            f"sampler.window.frames={scale.frames}",
            f"sampler.max_new_tokens={scale.tokens}",
        )
        """Overrides that make the sampler."""
        self._sampler = built("sample", "sampler", *self.words)
        self._opened = self._sampler.frame.opened(self._sampler.checkpoint)
        processor = self._opened.processor
        self._shape = processor.shape(*_SIZES[name])
        turn = self._sampler.prompt.turn(scale.frames, self._sampler.query(self._questions(1)[0]))
        self._ids: list[int] = processor.encode(turn, [self._shape.tokens] * scale.frames)
        self._prefix = processor.frames_end(np.array(self._ids))
        self._frames = DecodedFrames(*_SIZES[name])
        self._stock_is_warm = False

    def measure(self) -> None:
        """Measure stock, then ours, where they are left."""
        scale = self._scale
        stock_left = self._store.open([self._cell("stock", *sizes) for sizes in scale.stock_cells_of(self._name)])
        left = self._store.open([self._cell("ours", *sizes) for sizes in sorted(set(scale.cells_of(self._name)))])
        if not stock_left and not left:
            return
        counts: list[Weights] = []

        def when_made(network: Any) -> None:
            counts.append(weights_of(network))
            for cell in stock_left:
                self._store.measure(cell, lambda cell: self._with_stock(cell, network))
                free_memory()

        with self._store.or_reason([*stock_left, *left]):
            self._weights.when_made = when_made
            self._opened.load()
            if left:
                self._score(1, 1)  # warms up
            for cell in left:
                self._store.measure(cell, lambda cell: self._with_ours(cell, counts[0]))
                free_memory()

    def _cell(self, who: Any, windows: int, questions: int) -> Cell:
        scale = self._scale
        return Cell(who, self._name, windows, questions, scale.tokens, scale.frames, prompt_tokens=len(self._ids))

    def _with_ours(self, cell: Cell, counts: Weights) -> Cell:
        found = measured(
            lambda: self._score(cell.windows, cell.questions),
            self._weights.device,
            profiles=(cell.windows, cell.questions) == self._scale.profiled,
        )
        load = Load(
            cell.windows,
            cell.questions,
            cell.frames,
            self._shape.patches,
            self._shape.tokens,
            self._prefix,
            len(self._ids) - self._prefix,
            cell.tokens,
        )
        return replace(cell.with_measured(found), floor=floor_seconds(counts, load, self._machine))

    def _with_stock(self, cell: Cell, network: Any) -> Cell:
        processor = self._opened.processor
        prompt = stock.inputs(network, self._ids, [self._shape] * cell.frames, processor.picture_token)
        if not self._stock_is_warm:
            stock.answer(network, [prompt], cell.tokens)
            self._stock_is_warm = True
        prompts = [prompt] * (cell.windows * cell.questions)
        return cell.with_measured(stock.measured_loop(network, prompts, cell.tokens, self._weights.device))

    def _score(self, windows: int, questions: int) -> None:
        video = self._frames.video(windows * self._scale.frames)
        for relevance in self._sampler.score(video, self._frames, self._questions(questions)):
            check_answers([window.status for window in relevance.windows], windows)

    @staticmethod
    def _questions(count: int) -> list[Question]:
        text = "What does the person in the white coat put on the table after the bell has rung for the {}. time?"
        return [Question(f"q{number}", "none", text.format(number + 1)) for number in range(count)]


def check_answers(statuses: Sequence[Status], windows: int) -> None:
    """Check that every window was answered, and that every answer has all its tokens.

    Raises:
        RuntimeError: not so.
    """
    if len(statuses) != windows or set(statuses) != {Status.TRUNCATED_OUTPUT}:
        raise RuntimeError(f"{windows} windows ended as {', '.join(sorted(statuses))}, not at the limit of tokens")
