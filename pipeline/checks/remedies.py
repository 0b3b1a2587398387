"""Which setting an error of a stage is about.

What raises it, a family's checkpoint above all, serves both stages and names the overrides of both. A stage keeps its
own, and puts the key of the sampler within a sampler before it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.checks import Finding, Level
from pipeline.errors import PipelineError, of_stage
from pipeline.families.loading.checkpoint import Checkpoint


def checkpoints(part: Any, key: str) -> Iterator[tuple[str, Any, Checkpoint]]:
    """Every checkpoint of a sampler or an answerer and of the parts in it: its key, who has it, and it."""
    if not dataclasses.is_dataclass(part):
        return
    for field in dataclasses.fields(part):
        value = getattr(part, field.name, None)
        place = f"{key}.{field.name}"
        if isinstance(value, Checkpoint):
            yield place, part, value
        else:
            yield from checkpoints(value, place)


def finding(error: PipelineError, stage: str, part: Any) -> Finding:
    """An error that prevents a run, with the overrides of its stage.

    Args:
        error: as a check raised it.
        stage: ``sampler`` or ``answerer``.
        part: the sampler or the answerer.
    """
    return Finding(Level.CANNOT_RUN, error.problem, _remedy(error, stage, part))


@contextmanager
def own_overrides(stage: str, part: Any) -> Iterator[None]:
    """Errors that come out of a stage name the overrides of this stage. Arguments as of :func:`finding`."""
    try:
        yield
    except PipelineError as error:
        error.remedy = _remedy(error, stage, part)
        raise


def _remedy(error: PipelineError, stage: str, part: Any) -> str:
    remedy = of_stage(error.remedy, stage)
    found = list(checkpoints(part, stage))
    keys = [key for key, _, checkpoint in found if checkpoint.source in error.problem] or [key for key, _, _ in found]
    if not keys or f"{stage}.checkpoint" in keys:
        return remedy

    def under_each(word: re.Match[str]) -> str:
        return " ".join(f"{key}.{word[1]}" for key in keys)

    return re.sub(rf"\b{stage}\.checkpoint\.(\w+=(?:\.\.\.|[\w./-]*\w))", under_each, remedy)
