"""Cells of several workers: how much faster stage 1 is with a process and a model on each of several GPUs.

Every worker gets a video to warm up with. The clock starts when all of them are done with it, and then there are as
many videos for each worker as for one alone.
"""

from __future__ import annotations

import shutil
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from pipeline.artefacts.rows import RelevanceRow
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question
from pipeline.execution.decoding import decoding_reader
from pipeline.execution.local import LocalExecutor
from pipeline.execution.recipes import Recipe, decoding, recipe
from pipeline.execution.units import SampleUnit, Worker
from scripts.speed.cells import Cell, Store, Who
from scripts.speed.files import Videos
from scripts.speed.machine import Measured, any_device
from scripts.speed.sampling import check_answers
from scripts.speed.scale import Scale
from scripts.speed.weights import RandomWeights

_QUESTION = "What does the person in the white coat put on the table after the bell has rung for the second time?"
_KINDS: dict[str, tuple[Who, ...]] = {"gens": ("workers",), "gens_3b": ("workers_prepared", "workers")}
_held = ExitStack()


@dataclass(frozen=True)
class RandomRecipe(Recipe):
    """Makes workers whose models have random weights."""

    def worker(self) -> Worker:
        """As :meth:`Recipe.worker`; the process has random weights to its end."""
        _held.enter_context(RandomWeights(any_device()).used())
        return super().worker()


class WorkerCells:
    """Cells of one sampler with one worker and with one for each GPU.

    Args:
        sampler: ``gens`` or ``gens_3b``.
        words: overrides that make the sampler.
        videos: the files.
        scale: sizes.
        gpus: of the machine; none on a CPU.
        store: of the cells.
        work: folder for copies of a video, and for frames that are prepared beforehand.
    """

    def __init__(
        self, sampler: str, words: Sequence[str], videos: Videos, scale: Scale, gpus: int, store: Store, work: Path
    ) -> None:
        self._sampler, self._words, self._videos, self._scale = sampler, words, videos, scale
        self._places = [str(gpu) for gpu in range(gpus)] or ["", ""]
        self._store, self._work = store, work

    def measure(self) -> None:
        """Measure with frames that are prepared beforehand, where decoding is slower than the model, and from files."""
        scale = self._scale
        seconds, each = scale.lengths[0], scale.videos_of(self._sampler)
        for who in _KINDS[self._sampler]:
            cells = [
                Cell(
                    who,
                    self._sampler,
                    windows=workers * each * -(-seconds // scale.frames),
                    questions=1,
                    tokens=scale.tokens,
                    frames=scale.frames,
                    video=float(seconds),
                    workers=workers,
                )
                for workers in sorted({1, len(self._places)})
            ]
            for cell in self._store.open(cells):
                self._store.measure(cell, self._measured)

    def _measured(self, cell: Cell) -> Cell:
        count = cell.workers * self._scale.videos_of(self._sampler)
        paths = [self._copy(number, int(cell.video)) for number in range(count)]
        is_prepared = cell.who == "workers_prepared"
        with TemporaryDirectory(dir=self._work) as name:
            cache = self._work / "prepared" if is_prepared else Path(name)
            config = self._config(cache)
            self._probe(config, paths)
            warming = paths if is_prepared else paths[: cell.workers]
            spent = _timed(
                LocalExecutor(_random(config, is_prepared), self._places[: cell.workers]),
                [_unit(path, f"warm {number} of {name}") for number, path in enumerate(warming)],
                [_unit(path, f"timed {number} of {name}") for number, path in enumerate(paths)],
                cell.windows // count,
            )
        note = f"{count} videos of {cell.video / 60:.3g} minutes"
        return replace(cell.with_measured(Measured(spent, (spent,), None, None, None)), note=note)

    def _copy(self, number: int, seconds: int) -> Path:
        """A file of its own content: an empty box follows the video's."""
        path = self._work / f"{seconds}s-{number}.mp4"
        if not path.exists():
            shutil.copyfile(self._videos.of(seconds), path)
            with path.open("ab") as file:
                file.write(struct.pack(">I4sQ", 16, b"free", number))
        return path

    def _config(self, cache: Path) -> DictConfig:
        register_resolvers()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose("sample", [*self._words, f"paths.cache={cache}"])

    @staticmethod
    def _probe(config: DictConfig, paths: Sequence[Path]) -> None:
        """What a run does before its first stage."""
        whole = build(config.reader, "reader")
        reader = decoding_reader(whole, decoding(config), Path(config.paths.cache), None)
        reader.expect([str(path) for path in paths])
        for path in paths:
            reader.probe(str(path))


def _random(config: DictConfig, has_store: bool) -> RandomRecipe:
    usual = recipe(config, "sampler", has_store)
    return RandomRecipe(usual.stage, usual.settings, usual.plugins, usual.has_store)


def _unit(path: Path, question_id: str) -> SampleUnit:
    """A question that no other run has asked, so that none of its relevances is cached."""
    return SampleUnit(str(path), (Question(question_id, str(path), f"{_QUESTION} ({question_id})"),))


def _timed(executor: LocalExecutor, warming: Sequence[SampleUnit], units: Sequence[SampleUnit], windows: int) -> float:
    """Seconds that the units take once those before them are done."""
    cold = len(warming)
    began = 0.0

    def given() -> Iterator[SampleUnit | None]:
        yield from warming
        while cold:
            yield None
        yield from units

    with closing(executor.run(given())) as rows:
        for row in rows:
            if not isinstance(row, RelevanceRow):
                raise RuntimeError(str(row))
            check_answers([window.status for window in row.relevance.windows], windows)
            cold -= cold > 0
            if not began and not cold:
                began = time.perf_counter()
    return time.perf_counter() - began
