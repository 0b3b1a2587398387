"""What runs in a worker process. It takes jobs one at a time until its parent is gone, and imports no torch.

It is started by :mod:`pipeline.execution.processes` through its own entry point, so the parent's main module is never
run again: scripts without a main guard and notebooks may use workers.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.errors import PipelineError, VideoError
from pipeline.execution.parcels import Parcel, receive
from pipeline.video.failures import convert

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
GO_ON, STOP = "go on", "stop"
"""What the parent says after a part of a result."""


class NotHereError(Exception):
    """A value of a class that cannot be imported in a worker."""


class Job(Protocol):
    """Work for a worker; a value that can be pickled."""

    @property
    def path(self) -> str:
        """The video's path, for messages."""
        ...

    def run(self, held: Callable[[str], Any]) -> Generator[Any, None, None]:
        """The parts of the result.

        Args:
            held: a value that was sent before, by its key.
        """
        ...


def serve(descriptor: int, parent: int, memory_bytes: int) -> None:
    """Serve the parent over a socket.

    Args:
        descriptor: of the socket.
        parent: its process id.
        memory_bytes: a limit for this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _import_readers()
    over = socket.socket(fileno=descriptor)
    held: dict[str, Any] = {}
    try:
        Parcel(("ready", None)).send(over)
        while True:
            (kind, value), _ = receive(over)
            if kind == "hold":
                held[value] = _received(over)
            elif kind == "drop":
                held.pop(value, None)
            elif kind == "job":
                _limit_memory(memory_bytes)
                _run(value, lambda key: _usable(held[key]), over, memory_bytes)
    except (EOFError, OSError):
        os._exit(0)  # the parent is gone; libraries' threads need not be waited for


def _run(job: Job, held: Callable[[str], Any], over: socket.socket, memory_bytes: int) -> None:
    parts = job.run(held)
    outcome: tuple[str, Any] | None = None
    while outcome is None:
        try:
            packed = Parcel(("part", next(parts)))
        except StopIteration:
            outcome = ("done", None)
        except BaseException as error:  # whatever a decoder raises is a failure of its video
            _limit_memory(resource.RLIM_INFINITY)
            outcome = ("failed", _told(error, job, memory_bytes))
        else:
            packed.send(over)
            del packed  # the parent has the memory now
            (word, _), _ = receive(over)
            if word == STOP:
                parts.close()
                outcome = ("done", None)
    Parcel(outcome).send(over)


@dataclass(frozen=True)
class _Unusable:
    reason: str


def _received(over: socket.socket) -> Any:
    """The value that was sent; a mark where its class is not known here, as with one of a notebook."""
    try:
        return receive(over)[0]
    except (EOFError, OSError):
        raise
    except Exception as error:
        return _Unusable(f"{type(error).__name__}: {error}")


def _usable(value: Any) -> Any:
    if isinstance(value, _Unusable):
        raise NotHereError(value.reason)
    return value


def _told(error: BaseException, job: Job, memory_bytes: int) -> PipelineError | NotHereError:
    """The error for the parent, which has not every class that this process has."""
    if isinstance(error, NotHereError):
        return error
    if _is_of_memory(error):
        return VideoError(
            f"{job.path} needs more than {memory_bytes / 1e9:.3g} GB of memory to be read",
            f"allow more: execution.decode_memory_gb={2 * memory_bytes / 1e9:.3g}",
        )
    if isinstance(error, PipelineError):
        return error
    reason = (str(error).strip() or "no reason given").splitlines()[0]
    return VideoError(f"{job.path} cannot be read ({type(error).__name__}: {reason})", convert(job.path))


def _is_of_memory(error: BaseException) -> bool:
    at: BaseException | None = error
    while at is not None and not isinstance(at, MemoryError):
        at = at.__cause__ or at.__context__
    return at is not None


def die_with(parent: int) -> None:
    """End when the parent does, also in the middle of a job."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _import_readers() -> None:
    """Import what every job needs, before memory is limited."""
    import av  # noqa: F401
    import PIL.Image  # noqa: F401

    import pipeline.video.reader  # noqa: F401


def _limit_memory(memory_bytes: int) -> None:
    """Limit this process's own memory: an allocation beyond it fails here, before the machine runs out."""
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    is_within = most == resource.RLIM_INFINITY or 0 <= memory_bytes < most
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes if is_within else most, most))
