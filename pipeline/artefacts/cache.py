"""The relevance cache: a score is computed once, whatever answerers and budgets come after it.

One file a (video content, query, sampler identity), named by their digest. A file appears whole or not at all, so any
number of processes may share the folder, over NFS too: the worst that two writers can do is the same work twice.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.config import digest
from pipeline.domain import Relevance
from pipeline.errors import StorageError

_RELEVANCE = TypeAdapter(Relevance)


def relevance_key(fingerprint: str, query: str, sampler_identity: Mapping[str, Any]) -> str:
    """The name of a relevance: everything that decides it, nothing else."""
    return digest({"video": fingerprint, "query": query, "sampler": dict(sampler_identity)})


class RelevanceCache:
    """A folder of relevances by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser() / "relevance"

    def find(self, key: str, question_id: str) -> Relevance | None:
        """The relevance of this key, as that of ``question_id``; none if it has not been computed."""
        path = self._path(key)
        try:
            found = _RELEVANCE.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            # Written by another version of the schema: computed afresh and overwritten.
            return None
        except OSError as error:
            raise self._unusable(error) from error
        return replace(found, question_id=question_id)

    def keep(self, key: str, relevance: Relevance) -> None:
        """Store a relevance that would come out the same again; others are left to the next run."""
        if not relevance.is_final:
            return
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_RELEVANCE.dump_json(relevance))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._unusable(error) from error

    def check_writable(self) -> None:
        """Find out before hours of work that results could not be kept.

        Raises:
            StorageError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise self._unusable(error) from error

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def _unusable(self, error: OSError) -> StorageError:
        return StorageError(
            f"the relevance cache {self.folder} cannot be used: {error.strerror}",
            "choose another place: paths.cache=...",
        )
