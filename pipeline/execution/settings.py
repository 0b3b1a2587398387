"""Where the two stages run: in this process, in several of this machine, or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig

from pipeline.config import nearest
from pipeline.errors import ConfigError, MissingExtraError

EXECUTORS = ("inline", "local", "ray")
MOST_WORKERS = 1024


@dataclass(frozen=True)
class ExecutionSettings:
    """How many processes compute, and with which GPUs. Decides speed and safety, not what comes out."""

    executor: str | None
    """One of :data:`EXECUTORS`; None: ``local`` where there are GPUs for several workers, else ``inline``."""
    workers: int | None
    """Processes that hold a model; None: as many as there are GPUs for."""
    gpus_per_worker: int
    """GPUs that one worker sees; 0 hides them all."""
    overlap_stages: bool
    """Whether answers begin while other videos are still sampled; both models are in memory then."""
    address: str | None
    """Of a Ray cluster; None: ``RAY_ADDRESS``, and without it a Ray on this machine."""
    worker_deadline: float | None
    """Seconds in which a process with a video in hand gives a row, or is replaced; None: there is no limit."""

    def __post_init__(self) -> None:
        if self.executor is not None and self.executor not in EXECUTORS:
            raise ConfigError(
                f"execution.executor={self.executor}: no such executor.{nearest(str(self.executor), EXECUTORS)}",
                f"choose one of {', '.join(EXECUTORS)}: execution=local",
            )
        if self.workers is not None and not _is_count(self.workers, 1, MOST_WORKERS):
            raise ConfigError(
                f"execution.workers={self.workers}: a number from 1 to {MOST_WORKERS}",
                "set execution.workers=null for one a GPU, or execution.workers=2",
            )
        if not _is_count(self.gpus_per_worker, 0, MOST_WORKERS):
            raise ConfigError(
                f"execution.gpus_per_worker={self.gpus_per_worker}: a number from 0 to {MOST_WORKERS}",
                "set execution.gpus_per_worker=1",
            )
        if not isinstance(self.overlap_stages, bool):
            raise ConfigError(
                f"execution.overlap_stages={self.overlap_stages}: true or false", "set execution.overlap_stages=false"
            )
        if self.worker_deadline is not None and not (_is_number(self.worker_deadline) and self.worker_deadline > 0):
            raise ConfigError(
                f"execution.worker_deadline={self.worker_deadline} is not a time",
                "set execution.worker_deadline=null for no limit, or execution.worker_deadline=3600",
            )
        if self.overlap_stages and self.executor in ("inline", "ray"):
            raise ConfigError(
                f"execution={self.executor} execution.overlap_stages=true: stages overlap where each has processes of "
                "its own on this machine",
                "set execution=local, or execution.overlap_stages=false",
            )

    def chosen(self, gpus: Sequence[str]) -> str:
        """The executor to use with these GPUs."""
        if self.executor is not None:
            return self.executor
        return "local" if len(self.places(gpus)) > 1 else "inline"

    def places(self, gpus: Sequence[str]) -> tuple[str, ...]:
        """``CUDA_VISIBLE_DEVICES`` of each worker of one machine.

        Args:
            gpus: that may be used, as CUDA_VISIBLE_DEVICES names them.

        Raises:
            ConfigError: a worker would have fewer GPUs than it is to have.
        """
        each = self.gpus_per_worker
        if not gpus or not each:
            return ("",) * (self.workers or 1)
        groups = [",".join(gpus[start : start + each]) for start in range(0, len(gpus) - each + 1, each)]
        if not groups:
            raise ConfigError(
                f"execution.gpus_per_worker={each}, and there are {len(gpus)} GPUs",
                f"set execution.gpus_per_worker={len(gpus)}",
            )
        count = self.workers or len(groups)
        return tuple(groups[number % len(groups)] for number in range(count))


def execution_settings(config: DictConfig) -> ExecutionSettings:
    """The settings of a run.

    Raises:
        ConfigError: one of them cannot be used.
        MissingExtraError: Ray is not installed, and is to be used.
    """
    execution = config.execution
    if execution.executor == "ray" and find_spec("ray") is None:
        raise MissingExtraError("execution=ray: the package ray is not installed", "pip install 'gens-videoqa[ray]'")
    return ExecutionSettings(
        execution.executor,
        execution.workers,
        execution.gpus_per_worker,
        execution.overlap_stages,
        execution.get("address"),
        execution.worker_deadline,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
