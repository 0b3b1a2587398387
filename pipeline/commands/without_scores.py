"""A policy that looks at no scores lets no sampler run: ``sampler=uniform`` stands in for any other.

So its runs cost nothing in stage 1 and bear the name of no sampler, and a sweep with ``sampler=clip`` has the uniform
runs that clip is held against.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.config import build
from pipeline.errors import PipelineError
from pipeline.selection import without_scores
from pipeline.selection.uniform import UniformVariant

_INSTEAD = "about.instead_of"
"""Where the settings tell the sampler that does not run."""


def use_no_sampler(config: DictConfig, uniform: Callable[[], DictConfig], trusted: Sequence[str]) -> None:
    """Replace the sampler of a composed configuration, if its policy looks at no scores.

    Args:
        config: of any verb.
        uniform: composes ``sampler=uniform``.
        trusted: packages of plug-ins.
    """
    variant = _variant(config, trusted)
    if variant is None:
        return
    sampler = uniform()
    if config.sampler.get("_target_") != sampler._target_:
        with open_dict(config), open_dict(sampler):
            sampler.spread = variant
            OmegaConf.update(sampler, _INSTEAD, config.sampler.get("name"))
            config.sampler = sampler


def stand_in(config: DictConfig) -> str | None:
    """The name of the sampler that stands in for the one that was typed; None if none does."""
    sampler = config.get("sampler")
    is_one = isinstance(sampler, DictConfig) and OmegaConf.select(sampler, _INSTEAD) is not None
    return str(sampler.name) if is_one else None


def words_of_use(words: Sequence[str], stands_in: str | None) -> list[str]:
    """Overrides without those of a sampler that does not run, and with the one that ``stands_in`` for it."""
    if stands_in is None:
        return list(words)
    kept = [word for word in words if not re.match(r"[+~]*sampler[.@]", word)]
    return [f"sampler={stands_in}" if word.startswith("sampler=") else word for word in kept]


def _variant(config: DictConfig, trusted: Sequence[str]) -> UniformVariant | None:
    """The variant in which the policy spreads its frames; None if it looks at scores, or nothing can be known of it."""
    node = config.get("selection")
    if not isinstance(node, DictConfig) or not isinstance(config.get("sampler"), DictConfig):
        return None
    node = node.copy()
    if OmegaConf.is_list(node.get("budget")) and node.budget:
        node.budget = node.budget[0]  # several policies, which differ in nothing else
    with suppress(PipelineError):  # which its verb tells
        return without_scores(build(node, "selection", trusted))
    return None
