"""Checks that sampler, policy and answerer implement their protocols, since plug-ins are code of others."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.answerers import Answerer
from pipeline.checks import Finding, Level
from pipeline.identity import unkeyed
from pipeline.samplers import Sampler
from pipeline.selection import SelectionPolicy


def lacking(sampler: Sampler | None, policy: SelectionPolicy | None, answerer: Answerer | None) -> Iterator[Finding]:
    """Plug-ins that lack a part of their protocol."""
    for key, part, seam in (
        ("sampler", sampler, Sampler),
        ("selection", policy, SelectionPolicy),
        ("answerer", answerer, Answerer),
    ):
        if part is not None and not isinstance(part, seam):
            names = [name for name in dir(seam) if not name.startswith("_") and not hasattr(part, name)]
            yield Finding(
                Level.CANNOT_RUN,
                f"{key}={type(part).__name__} has no {', '.join(names)}, which every {seam.__name__} has",
                f"give its class what the protocol says (pipeline/{key}s/__init__.py), or choose another: {key}=...",
            )


def unkeyed_settings(
    sampler: Sampler | None, policy: SelectionPolicy | None, answerer: Answerer | None
) -> Iterator[Finding]:
    """Settings of plug-ins that may change without anything being computed again."""
    for key, part in (("sampler", sampler), ("selection", policy), ("answerer", answerer)):
        names = unkeyed(part)
        if names:
            yield Finding(
                Level.NOTE,
                f"{', '.join(f'{key}.{name}' for name in names)}: in no identity, so that results of another value are "
                "reused",
                f"if it changes what {type(part).__name__} gives, return it from identity(), and take Place, Speed or "
                "Label off its field",
            )
