"""Which model a checkpoint is, only by its ``config.json``, and what takes it: for the error that names another one.

Each family declares its own models in its folder; nothing else lists them. What to do about a checkpoint is said here
in the same words for both stages: either has one, so both overrides are named until the stage is known.

So is what its first use raises. A config that contradicts the weights or the other files often loads without an error:
nothing in the weights depends on the number of heads, on the layer whose features are taken, or on the size of a
window. The first prompt then fails somewhere inside of transformers.
"""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.errors import CheckpointError, either

if TYPE_CHECKING:
    from pipeline.families.loading.checkpoint import Checkpoint
    from pipeline.families.seam import Opened

_LOG = logging.getLogger(__name__)
_FAULTS = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError),
    NotImplementedError,
)


def override(field: str, value: str = "...") -> str:
    """The override that changes a field of the checkpoint, for either stage."""
    setting = f"checkpoint.{field}={value}"
    return either(f"answerer.{setting}", f"sampler.{setting}")


def restore(what: str) -> str:
    """What to do about files that are damaged, absent or another model's."""
    return f"Restore {what}, or name another checkpoint: {override('source')}."


@dataclass(frozen=True)
class KnownModel:
    """A kind of checkpoint that something here takes."""

    name: str
    """As people know it."""
    choices: tuple[str, ...]
    """The overrides under which it is taken: an answerer's, a sampler's, or both."""
    instead: str | None = None
    """What to do about one that is known and not taken."""


def families() -> Iterator[ModuleType]:
    """The folders next to this module that declare ``known_model(config)``."""
    import pipeline.families as room

    for found in pkgutil.iter_modules(room.__path__):
        if found.ispkg:
            folder = import_module(f"{room.__name__}.{found.name}")
            if hasattr(folder, "known_model"):
                yield folder


def known_model(config: Mapping[str, Any]) -> KnownModel | None:
    """The model of a ``config.json``; None where no family here takes it."""
    return next((found for folder in families() if (found := folder.known_model(config))), None)


def full_config(config: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """A ``config.json`` with what it leaves out because it is a default of its family's authors.

    Raises:
        CheckpointError: it says what its family cannot be.
    """
    for folder in families():
        if hasattr(folder, "full_config") and folder.known_model(config):
            found: Mapping[str, Any] = folder.full_config(config, source)
            return found
    return config


def opener_of_images(checkpoint: Checkpoint) -> Callable[[Checkpoint, int], Opened[Any]]:
    """What opens a checkpoint for a sampler that shows one frame at a time, by its ``config.json``.

    Raises:
        CheckpointError: its family cannot be shown frames in this way, or is not known.
    """
    from pipeline.families.loading.checkpoint import raw_config

    config, names = raw_config(checkpoint), []
    for folder in families():
        if hasattr(folder, "open_images"):
            if str(config.get("model_type")) in folder.NAMES:
                opener: Callable[[Checkpoint, int], Opened[Any]] = folder.open_images
                return opener
            names += folder.NAMES.values()
    raise another(config, checkpoint.source, names)


def another(config: Mapping[str, Any], source: str, wanted: Sequence[str]) -> CheckpointError:
    """The error for a checkpoint that is none of the ``wanted``: what it is, and what takes it.

    Args:
        config: its ``config.json``.
        source: its hub id or folder.
        wanted: names of what could have been taken.
    """
    found, kinds = known_model(config), ", ".join(architectures(config)) or "no architecture named"
    *others, last = dict.fromkeys(wanted)
    names = f"{', '.join(others)} or {last}" if others else last
    called = f"its model_type is {config.get('model_type')} ({kinds})"
    remedy = f"Name a checkpoint of {names}: {override('source')}"
    if found is None:
        return CheckpointError(
            f"{source} is not {names}: {called}.",
            f"{remedy}; or take the answerer or sampler for this model: `gens list answerers`, `gens list samplers`; "
            f"or, if transformers loads it, answerer=transformers answerer.checkpoint.source={source}.",
        )
    if found.instead:
        return CheckpointError(f"{source} is not {names}: {called}, so it is {found.name}.", found.instead)
    taken = ", or by ".join(
        f"{choice} {choice.partition('=')[0]}.checkpoint.source={source}" for choice in found.choices
    )
    return CheckpointError(
        f"{source} is not {names}: {called}, so it is {found.name}.",
        f"It is taken by {taken}. Or: {remedy[0].lower()}{remedy[1:]}.",
    )


def architectures(config: Mapping[str, Any]) -> Sequence[str]:
    """The class names that a ``config.json`` states."""
    found = config.get("architectures")
    return [str(name) for name in found] if isinstance(found, list) else []


@dataclass
class FirstUse:
    """Watches the uses of one checkpoint until each kind of them has succeeded once."""

    source: str
    """Hub id or folder of the checkpoint."""
    _proven: set[str] = field(default_factory=set)

    @contextmanager
    def watched(self, use: str) -> Iterator[None]:
        """Turn an error of the first such use into one that names the checkpoint; later ones stay what they are.

        Args:
            use: what is done, as a noun: ``prompt``.

        Raises:
            CheckpointError: the first use failed.
        """
        try:
            yield
        except _FAULTS as error:
            if use in self._proven or is_of_the_device(error):
                raise
            _LOG.info("the first %s of %s failed", use, self.source, exc_info=True)
            raise CheckpointError(
                f"{self.source} cannot be used: its first {use} fails with {type(error).__name__}: {error}.",
                f"Its configuration files do not go with its weights, or with each other. Fetch them again, or name "
                f"another checkpoint: {override('source')}. The traceback is in gens.log.",
            ) from error
        self._proven.add(use)


def is_of_the_device(error: BaseException) -> bool:
    """A GPU that fails says nothing of the checkpoint."""
    import torch

    return isinstance(error, getattr(torch, "AcceleratorError", ())) or "CUDA error" in str(error)
