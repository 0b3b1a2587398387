"""Which model a checkpoint is, only by its ``config.json``, and what takes it: for the error that names another one.

Each family declares its own models in its folder; nothing else lists them. What to do about a checkpoint is said here
in the same words for both stages: either has one, so both overrides are named.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.errors import CheckpointError

if TYPE_CHECKING:
    from pipeline.families.loading.checkpoint import Checkpoint
    from pipeline.families.seam import Opened


def override(field: str, value: str = "...") -> str:
    """The override that changes a field of the checkpoint, for either stage."""
    return f"answerer.checkpoint.{field}={value} (sampler.checkpoint.{field}={value} for the sampler)"


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
