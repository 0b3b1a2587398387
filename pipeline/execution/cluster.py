"""Actors on a Ray cluster that compute, each with a model and GPUs of its own.

Ray finds a place for each, on any node with room, and starts it again, perhaps elsewhere, if its process or its node is
gone: ``max_restarts``, and ``max_task_retries`` of the call with which an actor arrives. A call with units in hand is
not made again by Ray, which would give the same video to the same actor for ever: as with processes of one machine, a
:class:`pipeline.execution.dispatch.Dispatch` gives them to others, and finds the video that is to blame.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from typing import Any

from pipeline.artefacts.writing import write_whole
from pipeline.errors import ConfigError, IncompatibleLibraryError, MissingExtraError
from pipeline.execution.cluster_worker import THREADS, Arrival, ClusterWorker, NodeRequirements, software
from pipeline.execution.crew import Crew, Message, Place
from pipeline.execution.recipes import Recipe
from pipeline.execution.settings import ExecutionSettings
from pipeline.execution.units import Unit
from pipeline.paths import local_path
from pipeline.stopping import Interrupts
from pipeline.terminal import remark

_BEAT = 0.5
"""Seconds after which an interrupt is noticed."""
_PATIENCE = 20.0
"""Seconds without a place after which a message is printed."""
_STORE = 128 << 20
"""Bytes of the object store of a Ray of our own: only rows pass through it."""
_SAID_BY_US = r"A worker died or was killed while executing|Task ClusterWorker\."
"""Lines that Ray would print between those of a command, on standard output."""
_QUIET = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": _SAID_BY_US,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # older ones warn that it will be 0
}
_VERSIONS = re.compile(r"Ray:\s*(\S+)\s+Python:\s*(\S+)")
_DETAIL = re.compile(r"exit detail: ([^\n]*?)(?:\.\s|\n|$)", re.IGNORECASE)


class _Actor:
    """An actor on its way or at work, as the driver sees it."""

    def __init__(self, handle: Any, arriving: Any) -> None:
        self.is_waiting = False
        self.place = Place(host="")
        self.handle = handle
        self.node = ""
        self.pending: Any = arriving
        """A future of Ray: the arrival, then the stream of messages."""
        self.reason = ""
        self._verdict = ""
        self.since = time.monotonic()

    def send(self, unit: Unit | None) -> None:
        self.handle.give.remote(unit, unit is not None and local_path(unit.video).exists())

    def why(self) -> str:
        return self._verdict or self.reason

    def kill(self, reason: str) -> None:
        import ray

        self._verdict = reason
        ray.kill(self.handle, no_restart=False)

    def end(self) -> None:
        self.pending = None


class RayExecutor(Crew[_Actor]):
    """Has units done by actors of Ray.

    Args:
        recipe: from which they make their workers.
        settings: of the run.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: its address cannot be used.
    """

    def __init__(self, recipe: Recipe, settings: ExecutionSettings) -> None:
        super().__init__(settings.worker_deadline)
        self._ray = _imported(settings.address)
        if (_cluster(settings.address) or "").startswith("ray://"):
            raise ConfigError(
                "a driver that is not part of the cluster (ray://) cannot receive messages of actors",
                "run it on a node of the cluster, or with ray job submit, with execution.address=auto",
            )
        self._recipe = recipe
        self._settings = settings
        self._options: dict[str, Any] = {}
        self._handles: dict[int, Any] = {}
        self._required: NodeRequirements | None = None
        self._size = 0
        self._nodes = 1
        self._turn = 0
        self._is_told = False
        self._is_ours = False

    @property
    def size(self) -> int:
        """As set, or as many as the cluster has GPUs for."""
        return self._size

    @contextmanager
    def connected(self, interrupts: Interrupts) -> Iterator[None]:
        """Holds the connection and a file that all nodes must see.

        Raises:
            ConfigError, IncompatibleLibraryError: there is no such cluster, or it cannot be used.
        """
        self._is_ours = is_ours = _connect(self._ray, self._settings.address)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus = _gpus_of_a_worker(self._settings, nodes)
        self._nodes = len(nodes)
        self._size = self._settings.workers or _room(nodes, gpus)
        self._options = {
            "num_cpus": 0 if is_ours else 1,
            "num_gpus": gpus,
            "max_restarts": -1,
            "max_concurrency": 3,  # the stream of messages, a unit, an arrival
            "scheduling_strategy": "SPREAD",
        } | ({} if is_ours else {"runtime_env": {"env_vars": _environment()}})
        cache = str(self._recipe.settings["paths"]["cache"])
        token = local_path(cache) / f".{secrets.token_hex(8)}.driver"
        local_path(cache).mkdir(parents=True, exist_ok=True)
        write_whole(b"nodes of a cluster look for this file\n", token, "paths.cache=...")
        self._required = NodeRequirements(os.getcwd(), cache, token.name, software(), os.environ.get(THREADS), gpus > 0)
        try:
            yield
        finally:
            for handle in self._handles.values():
                with suppress(Exception):  # a cluster that is gone
                    self._ray.kill(handle)
            self._handles.clear()
            with suppress(OSError):
                token.unlink(missing_ok=True)

    def started(self, number: int) -> _Actor:
        """Ask Ray for an actor, or for the arrival of the one that it has started again."""
        if number not in self._handles:
            kind = self._ray.remote(ClusterWorker)
            self._handles[number] = kind.options(**self._options).remote()
        handle = self._handles[number]
        arriving = handle.arrive.options(max_task_retries=-1).remote(self._required)
        return _Actor(handle, arriving)

    def messages(self) -> Iterator[Message]:
        """As :meth:`Crew.messages`, for half a second at most.

        Raises:
            ConfigError: the Ray that was started for this command is gone. Ray itself would wait for another node.
        """
        waiting = {actor.pending: number for number, actor in self.members.items()}
        if not waiting:
            time.sleep(_BEAT)
            return
        order = list(waiting)
        self._turn = (self._turn + 1) % len(order)  # of several that are ready, the first is taken
        ready, _ = self._ray.wait([*order[self._turn :], *order[: self._turn]], timeout=_BEAT)
        for each in ready:
            number = waiting[each]
            actor = self.members[number]
            message = self._arrived(actor) if actor.place.pid is None else self._said_by(actor)
            if message is not None:
                if message[0] == "refused":
                    self._ray.kill(self._handles.pop(number))
                yield number, *message
            elif actor.place.pid is not None:
                self.record(number, "loading")
        if not ready:
            self._check_ours()
            self._tell_of_waiting()

    def _arrived(self, actor: _Actor) -> tuple[str, Any] | None:
        """Begin to listen to an actor that has arrived."""
        try:
            arrival: Arrival = self._ray.get(actor.pending)
        except self._ray.exceptions.RayError as error:
            return "refused", ConfigError(
                f"no actor can be started on the cluster: {_last_line(error)}",
                "install the same gens-videoqa on all nodes, or one environment that they share",
            )
        actor.place, actor.node = arrival.place, arrival.node
        if arrival.fault is not None:
            return "refused", arrival.fault
        beside = Counter(each.node for each in self.members.values())[actor.node]
        recipe = self._recipe.shared_by(max(beside, ceil(self._size / self._nodes)))
        sets_threads = not actor.place.gpu and THREADS not in os.environ
        actor.pending = actor.handle.messages.options(num_returns="streaming").remote(recipe, sets_threads)
        return None

    def _said_by(self, actor: _Actor) -> tuple[str, Any]:
        try:
            message: tuple[str, Any] = self._ray.get(next(actor.pending))
            return message
        except StopIteration:
            actor.reason = _gone(actor.place, "")
        except self._ray.exceptions.RayError as error:
            actor.reason = _gone(actor.place, str(error))
        return "gone", None

    def _check_ours(self) -> None:
        if self._is_ours and not any(node["Alive"] for node in self._ray.nodes()):
            raise ConfigError(
                "execution=ray: the Ray that was started on this machine has ended, perhaps for lack of memory or of "
                "processor time",
                "the same command goes on with what is missing; without Ray: execution=local",
            )

    def _tell_of_waiting(self) -> None:
        late = [actor for actor in self.members.values() if actor.place.pid is None]
        if late and not self._is_told and time.monotonic() - min(actor.since for actor in late) > _PATIENCE:
            self._is_told = True
            needed = f"{self._options['num_cpus']} cores and {self._options['num_gpus']} GPUs"
            remark(f"{len(late)} of {self._size} workers wait for a place on the cluster, which has no {needed} free")


def _imported(address: str | None) -> Any:
    """Ray, imported only for a run that takes it.

    Args:
        address: of a running cluster, if one is to be used.

    Raises:
        MissingExtraError: it cannot be imported.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)  # read as it is imported
    if not _cluster(address) and "ray" not in sys.modules:
        # The ports of a Ray of our own are open to the network. Set after the import, it would hold for Ray's servers
        # alone, which then let nobody in.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            f"execution=ray: the package ray cannot be imported ({error})", "pip install 'gens-videoqa[ray]'"
        ) from error
    return ray


def _cluster(address: str | None) -> str | None:
    """The running cluster that the settings or the environment name."""
    return address or os.environ.get("RAY_ADDRESS")


def _connect(ray: Any, address: str | None) -> bool:
    """Connect to the cluster, or start a Ray on this machine, which ends with this process. Returns whether it is ours.

    Both stages, and the jobs of a sweep, use the same one. A Ray that a notebook is connected to is used as it is.

    Raises:
        ConfigError, IncompatibleLibraryError: there is no such cluster, or one of another version.
    """
    where = _cluster(address)
    if ray.is_initialized():
        return not where
    quiet = {"log_to_driver": False, "configure_logging": False}
    with _signals_kept():
        try:
            if where:
                ray.init(address=where, **quiet)
            else:
                # Without cores no processes are started for tasks, of which there are none.
                ray.init(address="local", num_cpus=0, object_store_memory=_STORE, include_dashboard=False, **quiet)
        except RuntimeError as error:
            versions = _VERSIONS.findall(str(error))
            if len(versions) != 2:
                raise ConfigError(f"execution=ray: {_last_line(error)}", _CHECK_ADDRESS) from error
            (cluster, its_python), (ours, our_python) = versions
            raise IncompatibleLibraryError(
                f"the cluster {where} has Ray {cluster} with Python {its_python}, and this command Ray {ours} with "
                f"Python {our_python}",
                f"use an environment of Python {its_python} and pip install 'ray=={cluster}', on all nodes",
            ) from error
        except (OSError, ValueError) as error:  # ConnectionError is one
            raise ConfigError(
                f"execution=ray: no cluster answers at {where}: {_last_line(error)}", _CHECK_ADDRESS
            ) from error
    return not where


_CHECK_ADDRESS = "check execution.address=HOST:PORT and RAY_ADDRESS; without both, a Ray on this machine is started"


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray sets a handler of SIGTERM of its own, which would end a command without its outcome."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _gpus_of_a_worker(settings: ExecutionSettings, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many GPUs an actor asks for.

    Raises:
        ConfigError: no node has as many.
    """
    most = int(max((node.get("GPU", 0) for node in nodes), default=0))
    if most and settings.gpus_per_worker > most:
        raise ConfigError(
            f"execution.gpus_per_worker={settings.gpus_per_worker}, and no node of the cluster has more than {most}",
            f"set execution.gpus_per_worker={most}",
        )
    return settings.gpus_per_worker if most else 0


def _room(nodes: Sequence[Mapping[str, float]], gpus: int) -> int:
    """How many actors the cluster has GPUs for; one where they need none."""
    return sum(int(node.get("GPU", 0)) // gpus for node in nodes) if gpus else 1


def _environment() -> dict[str, str]:
    """The variables of this process that decide what can be imported. All other settings are in the recipe."""
    return {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}


def _gone(place: Place, told: str) -> str:
    """Why an actor is gone, as far as Ray knows."""
    detail = _DETAIL.search(told)
    why = f": {detail[1][:200]}" if detail else ""
    return f"a worker on {place.host} (process {place.pid}) ended{why}"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
