"""Relevances and answers that were computed before, by the digest of all that decides them.

The relevance cache serves every answerer and budget; the answer cache every run that shows the same frames with the
same question to the same model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts.store import ContentStore
from pipeline.domain import Answer, Relevance, Status
from pipeline.wellformed import dumped

Result = TypeVar("Result", Relevance, Answer)


class _ResultCache(Generic[Result]):
    """A folder of results of one kind, by key.

    Args:
        folder: of all caches.
        kind: of result.
        retries_crashed: whether what crashed workers is computed again.

    Attributes:
        hits: how many results were found.
    """

    def __init__(self, folder: Path, kind: type[Result], retries_crashed: bool) -> None:
        self.hits = 0
        self._retries_crashed = retries_crashed
        self._store = ContentStore(folder, ".json")
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def find(self, key: str, question_id: str) -> Result | None:
        """The result of this key, under the id ``question_id``; None if there is none.

        Raises:
            StorageError: the folder cannot be read.
        """
        content = self._store.find(key)
        if content is None:
            return None
        try:
            found = cast("Result", replace(self._adapter.validate_json(content), question_id=question_id, cached=True))
        except ValidationError:
            return None  # damaged, or written by another version of the schema: computed again and overwritten
        if not self.counts(found):
            return None
        self.hits += 1
        return found

    def counts(self, result: Result) -> bool:
        """Whether a result that is there is not computed again."""
        return result.is_final and not (self._retries_crashed and result.status is Status.CRASHED)

    def keep(self, key: str, result: Result) -> None:
        """Store a result that would come out the same again; others are left to the next run.

        Raises:
            StorageError: the folder cannot be written.
        """
        if result.is_final:
            self._store.keep(key, dumped(self._adapter, result))

    def check_writable(self) -> None:
        """Check before hours of work that results can be stored.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._store.check_writable()


class RelevanceCache(_ResultCache[Relevance]):
    """A folder of relevances by key (:func:`pipeline.identity.relevance_key`)."""

    def __init__(self, folder: Path, retries_crashed: bool = False) -> None:
        super().__init__(folder / "relevance", Relevance, retries_crashed)


class AnswerCache(_ResultCache[Answer]):
    """A folder of answers by key (:func:`pipeline.identity.answer_key`), for repeatable answerers."""

    def __init__(self, folder: Path, retries_crashed: bool = False) -> None:
        super().__init__(folder / "answers", Answer, retries_crashed)
