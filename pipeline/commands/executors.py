"""Which executor does the work of a stage."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from pipeline.checks.devices import Machine, this_machine
from pipeline.checks.remedies import checkpoints
from pipeline.execution.recipes import Stage, recipe
from pipeline.execution.settings import execution_settings
from pipeline.execution.units import Executor, OverlappingExecutor


def executor_of(config: DictConfig, stage: Stage, part: Any, videos: int, *, has_store: bool) -> Executor | None:
    """The executor of a stage; None does its work in this process.

    A sampler or an answerer of ours that loads no checkpoint, as one that asks a server, always works in this process:
    several would gain nothing, and each would keep to the limits of its server by itself. Where the executor is
    chosen here, so does a run over one video.

    Args:
        config: of the run.
        stage: ``sampler`` or ``answerer``.
        part: the sampler or the answerer.
        videos: of the run.
        has_store: whether prepared candidates are stored for other jobs.

    Raises:
        ConfigError: a setting cannot be used.
    """
    settings = execution_settings(config)
    if settings.executor == "inline" or not _computes(part, stage):
        return None
    if settings.executor is None and (videos < 2 or _names_devices(part, stage)):
        return None
    gpus = visible_gpus()
    chosen = settings.chosen(gpus)
    if chosen == "ray":
        from pipeline.execution.cluster import RayExecutor

        return RayExecutor(recipe(config, stage, has_store), settings)
    if chosen == "local":
        from pipeline.execution.local import LocalExecutor

        return LocalExecutor(recipe(config, stage, has_store), settings.places(gpus), settings.worker_deadline)
    return None


def side_by_side(config: DictConfig, stage: Stage, part: Any, videos: int) -> int:
    """The number of workers of a stage with GPUs of their own, 1 without. Of a cluster nothing is known before the run.

    Args:
        config: of the run.
        stage: ``sampler`` or ``answerer``.
        part: the sampler or the answerer.
        videos: of the run, each of which one worker takes.

    Raises:
        ConfigError: a setting cannot be used.
    """
    from pipeline.execution.local import LocalExecutor

    if execution_settings(config).executor == "ray":
        return 1
    executor = executor_of(config, stage, part, videos, has_store=False)
    return max(1, min(executor.side_by_side, videos)) if isinstance(executor, LocalExecutor) else 1


def workplaces(config: DictConfig, videos: int, stage: Stage, part: Any, machine: Machine) -> tuple[Machine, ...]:
    """What the processes that compute a stage have of a machine, each kind once: all of it where that is this process.

    Args:
        config: of the run.
        videos: of the run.
        stage: ``sampler`` or ``answerer``.
        part: the sampler or the answerer.
        machine: with the GPUs of :func:`visible_gpus`.

    Raises:
        ConfigError: a setting cannot be used.
    """
    from pipeline.execution.local import LocalExecutor

    executor = executor_of(config, stage, part, videos, has_store=False)
    if not isinstance(executor, LocalExecutor):
        return (machine,)
    gpus = dict(zip(visible_gpus(), machine.gpus, strict=False))
    found = []
    for place, sharing in Counter(executor.places).items():
        seen = [gpus[name] for name in place.split(",") if place]
        own = tuple(dataclasses.replace(gpu, index=index) for index, gpu in enumerate(seen))
        found.append(Machine(own, machine.memory, sharing))
    return tuple(dict.fromkeys(found))


def overlapping(config: DictConfig, sampler: Any, answerer: Any, *, has_store: bool) -> OverlappingExecutor | None:
    """The executor of both stages at once, also on a single GPU; None where they follow each other.

    They also do where one of them has no process to itself: it loads no model, or its model is put on certain GPUs.
    """
    settings = execution_settings(config)
    parts: tuple[tuple[Stage, Any], ...] = (("sampler", sampler), ("answerer", answerer))
    if not settings.overlap_stages or not all(_computes(part, stage) for stage, part in parts):
        return None
    if settings.executor is None and any(_names_devices(part, stage) for stage, part in parts):
        return None
    from pipeline.execution.local import OverlappedStages

    first, second = (recipe(config, stage, has_store) for stage, _ in parts)
    return OverlappedStages(first, second, settings.places(visible_gpus()), settings.worker_deadline)


def visible_gpus() -> Sequence[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count = len(this_machine().gpus)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(count)] if chosen is None else chosen.split(",")
    return [name.strip() for name in names[:count]]


def _computes(part: Any, stage: Stage) -> bool:
    """Whether it holds a model, or runs a function or a class of the user."""
    return any(checkpoints(part, stage)) or _is_others(part)


def _is_others(part: Any) -> bool:
    if not type(part).__module__.startswith("pipeline."):
        return True
    if not dataclasses.is_dataclass(part):
        return False
    values = [getattr(part, field.name, None) for field in dataclasses.fields(part)]
    return any(
        callable(value) or (dataclasses.is_dataclass(value) and _is_others(value))
        for value in values
        if not isinstance(value, type)
    )


def _names_devices(part: Any, stage: Stage) -> bool:
    """Whether a model is put on certain GPUs or spread over several, which one process alone sees."""
    devices = [checkpoint.device for _, _, checkpoint in checkpoints(part, stage)]
    return any(device == "spread" or ":" in device for device in devices)
