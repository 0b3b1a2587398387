"""Selection policies: from a relevance and a budget to frames. Cheap, deterministic, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from pipeline.domain import Relevance, Selection, Video
from pipeline.selection.uniform import UniformVariant


@runtime_checkable
class SelectionPolicy(Protocol):
    """Selects frames by a relevance."""

    @property
    def name(self) -> str:
        """As in its YAML."""
        ...

    @property
    def budget(self) -> int:
        """The largest number of frames."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """All that decides the selection, as JSON values."""
        ...

    def select(self, relevance: Relevance, video: Video) -> Selection:
        """At most ``budget`` frames in order of time, each with its source. A failure is kept as its status."""
        ...


@runtime_checkable
class WithoutScores(Protocol):
    """A policy that can tell that it looks at no scores, so that no sampler has to run for it."""

    @property
    def without_scores(self) -> UniformVariant | None:
        """The variant in which its frames are spread evenly, whatever the scores; None if it looks at them."""
        ...


def without_scores(policy: object) -> UniformVariant | None:
    """As :attr:`WithoutScores.without_scores`; None for a policy that does not tell."""
    return policy.without_scores if isinstance(policy, WithoutScores) else None
