"""What is computed once, whatever runs come after it: relevances and answers by the digest of all that decides them.

The relevance cache serves every answerer and budget; the answer cache every run that shows the same frames with the
same question to the same model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts.store import ContentStore
from pipeline.domain import Answer, Relevance
from pipeline.wellformed import dumped

_RELEVANCE = TypeAdapter(Relevance)
_ANSWER = TypeAdapter(Answer)


class RelevanceCache:
    """A folder of relevances by key (:func:`pipeline.identity.relevance_key`)."""

    def __init__(self, folder: Path) -> None:
        self._store = ContentStore(folder / "relevance", ".json")

    def find(self, key: str, question_id: str) -> Relevance | None:
        """The relevance of this key, as that of ``question_id``; None if it has not been computed.

        Raises:
            StorageError: the folder cannot be read.
        """
        content = self._store.find(key)
        if content is None:
            return None
        try:
            return replace(_RELEVANCE.validate_json(content), question_id=question_id)
        except ValidationError:
            return None  # damaged, or written by another version of the schema: computed again and overwritten

    def keep(self, key: str, relevance: Relevance) -> None:
        """Store a relevance that would come out the same again; others are left to the next run.

        Raises:
            StorageError: the folder cannot be written.
        """
        if relevance.is_final:
            self._store.keep(key, dumped(_RELEVANCE, relevance))

    def check_writable(self) -> None:
        """Find out before hours of work that results could not be kept.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._store.check_writable()


class AnswerCache:
    """A folder of answers by key (:func:`pipeline.identity.answer_key`), for answerers that repeat themselves."""

    def __init__(self, folder: Path) -> None:
        self._store = ContentStore(folder / "answers", ".json")

    def find(self, key: str, question_id: str) -> Answer | None:
        """The answer of this key, as that of ``question_id``; None if it has not been given.

        Raises:
            StorageError: the folder cannot be read.
        """
        content = self._store.find(key)
        if content is None:
            return None
        try:
            return replace(_ANSWER.validate_json(content), question_id=question_id)
        except ValidationError:
            return None  # as for relevances

    def keep(self, key: str, answer: Answer) -> None:
        """Store an answer that would come out the same again.

        Raises:
            StorageError: the folder cannot be written.
        """
        if answer.status.is_final:
            self._store.keep(key, dumped(_ANSWER, answer))
