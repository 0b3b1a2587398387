"""Selection policies: from a relevance and a budget to frames. Cheap, deterministic, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from pipeline.domain import Relevance, Selection, Video


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
