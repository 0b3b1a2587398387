"""From what a worker is made, in whatever process: the settings of its stage as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from pipeline.answer_requests import OverLimit
from pipeline.answerers import PreparesAhead
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.config import build
from pipeline.execution.answering import AnswerWorker, Showing
from pipeline.execution.candidates import CandidateStore
from pipeline.execution.decoding import DecodeSettings, decoding_reader
from pipeline.execution.sampling import SampleWorker
from pipeline.execution.units import Worker
from pipeline.subtitles import SubtitleChoice

Stage = Literal["sampler", "answerer"]
"""Named by its part of the configuration."""
_SHARED = ("reader", "execution", "paths")
_OF_STAGE: Mapping[Stage, tuple[str, ...]] = {"sampler": (), "answerer": ("over_limit", "subtitles")}


@dataclass(frozen=True)
class Recipe:
    """What a process needs to make a worker of one stage; can be pickled. Secrets are in it: it is sent, not written.

    Its process must find the classes of ``plugins`` where the driver does, and the same folders.
    """

    stage: Stage
    settings: Mapping[str, Any]
    """Of the stage's part, the reader, the execution and the folders."""
    plugins: tuple[str, ...]
    has_store: bool
    """Whether prepared candidates are stored for other jobs."""
    sharing: int = 1
    """Workers that share the cores and the memory of their machine, this one included."""

    def shared_by(self, workers: int) -> Recipe:
        """The recipe for one of several workers of a machine."""
        return replace(self, sharing=workers)

    def worker(self) -> Worker:
        """Make the worker. No model is loaded yet.

        Raises:
            ConfigError: as where the driver makes its parts.
        """
        config = OmegaConf.create(dict(self.settings))
        cache = Path(config.paths.cache)
        decode = shared_decoding(config, self.sharing)
        store = CandidateStore(cache, int(decode.candidates_gb * 1e9)) if self.has_store else None
        reader = decoding_reader(build(config.reader, "reader", self.plugins), decode, cache, store)
        part = build(config[self.stage], self.stage, self.plugins)
        retries = decode.retry == "crashed"
        if self.stage == "sampler":
            return SampleWorker(part, reader, RelevanceCache(cache, retries))
        if isinstance(part, PreparesAhead):
            part.hold_at_most(int(config.execution.prepared_gb * 1e9 / self.sharing))
        showing = Showing(
            OverLimit(config.over_limit), SubtitleChoice(config.subtitles), int(config.execution.answer_batch)
        )
        return AnswerWorker(part, reader, AnswerCache(cache, retries), showing)


def recipe(config: DictConfig, stage: Stage, has_store: bool) -> Recipe:
    """The recipe of a stage.

    Args:
        config: of the run.
        stage: ``sampler`` or ``answerer``.
        has_store: whether prepared candidates are stored for other jobs.
    """
    part = OmegaConf.masked_copy(config, [stage, *_SHARED, *_OF_STAGE[stage]])
    settings = OmegaConf.to_container(part, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    return Recipe(stage, {str(key): value for key, value in settings.items()}, tuple(config.plugins), has_store)


def decoding(config: DictConfig) -> DecodeSettings:
    """The settings of the processes that read videos.

    Raises:
        ConfigError: one of them cannot be used.
    """
    execution = config.execution
    return DecodeSettings(
        execution.decode_workers,
        execution.decode_deadline,
        execution.decode_memory_gb,
        execution.window_gb,
        execution.candidates_gb,
        execution.retry,
    )


def shared_decoding(config: DictConfig, sharing: int) -> DecodeSettings:
    """The settings of one of several workers that share a machine. Each has a process of its own that reads videos."""
    whole = decoding(config)
    if sharing == 1:
        return whole
    processes = whole.processes and max(1, whole.processes // sharing)
    return replace(whole, workers=processes, window_gb=whole.window_gb / sharing)
