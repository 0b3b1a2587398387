"""Relevance and a budget in, at most so many frames out. Cheap, deterministic, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from pipeline.domain import Relevance, Selection, Video


@runtime_checkable
class SelectionPolicy(Protocol):
    """Cuts a selection from a relevance."""

    @property
    def name(self) -> str:
        """As in its YAML."""
        ...

    @property
    def budget(self) -> int:
        """Frames at most."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """All that decides the selection, as JSON values."""
        ...

    def select(self, relevance: Relevance, video: Video) -> Selection:
        """At most ``budget`` frames in order of time, each with its source; a failure stays a status."""
        ...
