"""What to do about a checkpoint, in the same words everywhere: either stage has one, so both overrides are named."""

from __future__ import annotations


def override(field: str, value: str = "...") -> str:
    """The override that changes a field of the checkpoint, for either stage."""
    return f"answerer.checkpoint.{field}={value} (sampler.checkpoint.{field}={value} for the sampler)"


def restore(what: str) -> str:
    """What to do about files that are damaged, absent or another model's."""
    return f"Restore {what}, or name another checkpoint: {override('source')}."
