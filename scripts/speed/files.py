"""Cells from a video file: ``gens sample`` as a user runs it, decoding alone, and each backend of the reader."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from pipeline.artefacts.folder import RELEVANCE_FILE
from pipeline.cli import main as gens
from pipeline.domain import Status
from pipeline.stopping import ExitCode
from scripts.speed.cells import Cell, Store
from scripts.speed.decoding import decode_alone, read_alone
from scripts.speed.machine import Measured, cores, free_memory, kernels_of, measured
from scripts.speed.sampling import check_answers
from scripts.speed.scale import Scale
from scripts.speed.video import repeat, write_piece
from scripts.speed.weights import RandomWeights
from scripts.speed.where import Traced

BACKENDS = ("pyav", "decord", "torchcodec")
_QUESTION = "What does the person in the white coat put on the table after the bell has rung for the second time?"


class Videos:
    """The files, made when they are first asked for.

    Args:
        folder: where they are made.
        scale: their sizes.
        piece: a file to repeat; None: one is made.
    """

    def __init__(self, folder: Path, scale: Scale, piece: Path | None) -> None:
        self._folder, self._scale, self._given = folder, scale, piece

    def of(self, seconds: int) -> Path:
        """A file of so many seconds."""
        path = self._folder / f"{seconds}s.mp4"
        if not path.exists():
            repeat(self.piece, path, seconds)
        return path

    @cached_property
    def piece(self) -> Path:
        """What is repeated."""
        if self._given is not None:
            return self._given
        path = self._folder / "piece.mp4"
        write_piece(path, self._scale.piece, *self._scale.size)
        return path


def measure_sampler(
    sampler: str, words: Sequence[str], videos: Videos, scale: Scale, weights: RandomWeights, store: Store
) -> None:
    """Measure ``gens sample`` from each file to the relevance of one question.

    Args:
        sampler: ``gens`` or ``gens_3b``.
        words: overrides that make the sampler.
        videos: the files.
        scale: their lengths.
        weights: in use.
        store: of the cells.
    """
    left = store.open(
        [
            Cell("file", sampler, -(-seconds // scale.frames), 1, scale.tokens, scale.frames, float(seconds))
            for seconds in scale.lengths
        ]
    )

    def measure(cell: Cell) -> Cell:
        path = videos.of(int(cell.video))
        traced = Traced(lambda: _sample(path, words), weights.device)
        found = measured(traced.run, weights.device, repeats=False, profiles=False)
        told = replace(cell.with_measured(found), where=traced.where(), note=_size(path))
        if weights.device == "cpu":
            return told
        kernels = kernels_of(traced.run, weights.device)
        steady = f"{traced.idle_once_begun(kernels):.0%} idle from the first kernel on"
        return replace(told, where=traced.where(kernels), idle=traced.idle(kernels), note=f"{told.note}, {steady}")

    with store.or_reason(left):
        if left:
            # Makes the model, and warms up with all sizes of windows that follow: a whole one, and the rest of a video.
            _sample(videos.of(scale.frames + scale.piece), words)
        for cell in left:
            store.measure(cell, measure)
            free_memory()


def measure_decoding(videos: Videos, scale: Scale, store: Store) -> None:
    """Measure decoding alone on the cores that we may use."""
    processes = cores()

    def measure(cell: Cell) -> Cell:
        path = videos.of(int(cell.video))
        spent = decode_alone(path, int(cell.video), processes)
        found = Measured(spent, (spent,), None, None, None)
        return replace(cell.with_measured(found), note=f"{processes} processes, {_size(path)}")

    for cell in store.open([Cell("decoding", "file", video=float(seconds)) for seconds in scale.lengths]):
        store.measure(cell, measure)


def measure_readers(videos: Videos, seconds: int, store: Store) -> None:
    """Measure one reader of each backend over a file of so many seconds, each in its own process."""

    def measure(cell: Cell) -> Cell:
        path = videos.of(seconds)
        figures = read_alone(path, seconds, cell.of)
        found = Measured(figures["seconds"], (figures["seconds"],), figures["peak"], None, None)
        return replace(cell.with_measured(found), note=f"{figures['frames']} frames, {_size(path)}")

    for cell in store.open([Cell("reader", backend, video=float(seconds)) for backend in BACKENDS]):
        store.measure(cell, measure)


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.0f} MiB h264"


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Close what a command logs to with the command: its files are in a folder that is removed."""
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        yield
    finally:
        for handler in set(root.handlers).difference(before):
            root.removeHandler(handler)
            handler.close()
        root.handlers = before


def _sample(video: Path, words: Sequence[str]) -> None:
    """Run ``gens sample`` over one question with an empty cache, and a file that no process has seen yet."""
    with TemporaryDirectory(dir=video.parent) as name:
        home = Path(name)
        os.link(video, home / video.name)
        row = {"id": "q", "video": video.name, "question": _QUESTION, "options": ["a", "b", "c", "d"], "answer": "a"}
        (home / "questions.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        command = ["gens", "sample", "benchmark=jsonl", "benchmark.path=questions.jsonl", "selection=topk", *words]
        said = io.StringIO()
        with (
            chdir(home),
            patch.object(sys, "argv", command),
            patch.dict(os.environ, {"GENS_CACHE": str(home / "cache")}),
            redirect_stdout(said),
            redirect_stderr(said),
            _handlers_kept(),
        ):
            code = gens()
        if code not in (ExitCode.SUCCESS, ExitCode.QUESTIONS_FAILED):
            raise RuntimeError(said.getvalue().strip() or f"gens sample ended with {code}")
        [path] = home.glob(f"runs/*/{RELEVANCE_FILE}")
        relevance = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["relevance"]
        statuses = [Status(window["status"]) for window in relevance["windows"]]
        check_answers(statuses, len(statuses))
