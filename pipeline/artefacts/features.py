"""Embeddings of a video's candidate frames, computed once, whatever questions and budgets come after them.

One file a digest of all that decides them (video content, encoder, candidate rate). As in the relevance cache a file
appears whole or not at all, so any number of processes may share the folder; nothing in it is ever unpickled.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import StorageError


@dataclass(frozen=True, eq=False)
class Features:
    """What an encoder makes of the candidate frames of one video."""

    times: tuple[float, ...]
    """Candidate frames in seconds, ascending."""
    vectors: npt.NDArray[np.float32]
    """``[candidates, dimensions]``, each of unit length, so that a dot product is a cosine."""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.times):
            raise ValueError(f"{len(self.times)} times and vectors of shape {self.vectors.shape} do not go together.")


class FeatureStore:
    """A folder of features by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser() / "features"

    def find(self, key: str) -> Features | None:
        """The features kept under ``key``; none if there are none, or the file is damaged.

        Raises:
            StorageError: the folder cannot be read.
        """
        try:
            with np.load(self._path(key), allow_pickle=False) as arrays:
                times, vectors = arrays["times"], arrays["vectors"]
            return Features(tuple(times.tolist()), vectors.astype(np.float32, copy=False))
        except FileNotFoundError:
            return None
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError):
            return None  # damaged on the disk: computed afresh and overwritten
        except OSError as error:
            raise self._unusable(error) from error

    def keep(self, key: str, features: Features) -> None:
        """Store ``features`` under ``key``; whoever writes last wins, and all write the same.

        Raises:
            StorageError: the folder cannot be written.
        """
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    np.savez(file, times=np.asarray(features.times, np.float64), vectors=features.vectors)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._unusable(error) from error

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"

    def _unusable(self, error: OSError) -> StorageError:
        return StorageError(
            f"the store of frame embeddings {self.folder} cannot be used: {error.strerror or error}",
            "choose another place: paths.cache=...",
        )
