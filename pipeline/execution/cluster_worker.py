"""The actor of Ray that computes for :mod:`pipeline.execution.cluster`, on any node of a cluster."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pipeline import versions
from pipeline.errors import ConfigError, IncompatibleLibraryError, InputError, PipelineError
from pipeline.execution.crew import Place
from pipeline.execution.decoding import usable_cores
from pipeline.execution.feeding import Line, forward_errors, work
from pipeline.execution.recipes import Recipe
from pipeline.execution.units import Unit
from pipeline.identity import source_of
from pipeline.paths import local_path

THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class NodeRequirements:
    """What every node must have as the driver has it."""

    folder: str
    """The working folder, from which relative paths start."""
    cache: str
    """The cache folder, as written in the settings."""
    token: str
    """Name of a file in the cache folder."""
    software: dict[str, str]
    """Versions of what decides results, and a digest of this package's source."""
    threads: str | None
    """``OMP_NUM_THREADS`` of the driver."""
    has_gpus: bool
    """Whether workers have GPUs."""


@dataclass(frozen=True)
class Arrival:
    """Where an actor is, and why it cannot work there."""

    place: Place
    node: str
    """Id."""
    fault: PipelineError | None


def software() -> dict[str, str]:
    """Versions of what decides results, and a digest of this package's source."""
    return {"python": versions.python(), **versions.packages(), "source": str(source_of(Recipe))}


class ClusterWorker(Line):
    """Serves one driver, with one stream of messages in its life."""

    def __init__(self) -> None:
        super().__init__()
        self._given: SimpleQueue[tuple[Unit | None, bool]] = SimpleQueue()
        self._said: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._is_used = False

    def arrive(self, wanted: NodeRequirements) -> Arrival:
        """Look around. Where the driver has lost the stream of this process, it ends, and Ray starts another one."""
        import ray

        if self._is_used:
            os._exit(1)
        node = ray.get_runtime_context().get_node_id()
        if not wanted.has_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        place = Place(os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", ""), socket.gethostname())
        try:
            _check(wanted)
        except PipelineError as error:
            return Arrival(place, node, error)
        if wanted.threads is not None:
            os.environ[THREADS] = wanted.threads
        return Arrival(place, node, None)

    def messages(self, recipe: Recipe, sets_threads: bool) -> Iterator[tuple[str, Any]]:
        """Work in a thread, and pass on what it says."""
        self._is_used = True
        if sets_threads:
            os.environ[THREADS] = str(max(1, usable_cores() // recipe.sharing))
        forward_errors(self)
        threading.Thread(target=work, args=(recipe, self), name="work", daemon=True).start()
        while True:
            yield self._said.get()

    def give(self, unit: Unit | None, is_there: bool) -> None:
        """Take a unit, or the word that there is none now.

        Args:
            unit: that was asked for.
            is_there: whether the driver sees its video.
        """
        self._given.put((unit, is_there))

    def send(self, kind: str, value: Any = None) -> None:
        """Leave a message for :meth:`messages`."""
        self._said.put((kind, value))

    def receive(self) -> Unit | None:
        """What was given.

        Raises:
            InputError: the driver sees a video that this node does not see.
        """
        unit, is_there = self._given.get()
        if unit is not None and is_there and not local_path(unit.video).exists():
            raise InputError(
                f"the node {socket.gethostname()} does not have {unit.video}, which the driver has",
                "keep the videos on a file system that all nodes share, at the same path",
            )
        return unit


def _check(wanted: NodeRequirements) -> None:
    """Raise where this node differs from the driver in what must be shared."""
    host = socket.gethostname()
    found = software()
    if found != wanted.software:
        names = [name for name in {**wanted.software, **found} if found.get(name) != wanted.software.get(name)]
        told = "; ".join(
            f"another {name} of this program"
            if name == "source"
            else f"{name} {found.get(name, 'missing')}, the driver {wanted.software.get(name, 'none')}"
            for name in names
        )
        raise IncompatibleLibraryError(
            f"the node {host} has {told}", "install the same versions on all nodes, or one environment that they share"
        )
    try:
        os.chdir(wanted.folder)
    except OSError as error:
        raise ConfigError(
            f"the node {host} does not have the working folder {wanted.folder} ({error.strerror})",
            "run from a folder that all nodes share, and keep videos and paths.cache on one",
        ) from error
    token = local_path(wanted.cache) / wanted.token
    if not Path(token).is_file():
        raise ConfigError(
            f"the node {host} does not see the cache folder of the driver, {local_path(wanted.cache)}",
            "name a folder that all nodes share: paths.cache=/shared/cache",
        )
