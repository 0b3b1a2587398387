"""The relevance cache: a score is computed once, whatever answerers and budgets come after it.

One file a (video content, query, sampler identity), named by their digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts.store import ContentStore
from pipeline.config import digest
from pipeline.domain import Relevance

_RELEVANCE = TypeAdapter(Relevance)


def relevance_key(fingerprint: str, query: str, sampler_identity: Mapping[str, Any]) -> str:
    """The name of a relevance: everything that decides it, nothing else."""
    return digest({"video": fingerprint, "query": query, "sampler": dict(sampler_identity)})


class RelevanceCache:
    """A folder of relevances by key."""

    def __init__(self, folder: Path) -> None:
        self._store = ContentStore(folder / "relevance", ".json")

    def find(self, key: str, question_id: str) -> Relevance | None:
        """The relevance of this key, as that of ``question_id``; none if it has not been computed.

        Raises:
            StorageError: the folder cannot be read.
        """
        content = self._store.find(key)
        if content is None:
            return None
        try:
            return replace(_RELEVANCE.validate_json(content), question_id=question_id)
        except ValidationError:
            return None  # written by another version of the schema: computed afresh and overwritten

    def keep(self, key: str, relevance: Relevance) -> None:
        """Store a relevance that would come out the same again; others are left to the next run.

        Raises:
            StorageError: the folder cannot be written.
        """
        if relevance.is_final:
            self._store.keep(key, _RELEVANCE.dump_json(relevance))

    def check_writable(self) -> None:
        """Find out before hours of work that results could not be kept.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._store.check_writable()
