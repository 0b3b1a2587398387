"""Embeddings on disk: they come back as they were, and damage costs a computation, never a wrong number."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.artefacts.features import Features, FeatureStore
from pipeline.errors import StorageError

KEY = "ab12"


def features(count: int = 3, seed: int = 0) -> Features:
    vectors = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    return Features(tuple(0.1 * place for place in range(count)), vectors / np.linalg.norm(vectors, axis=1)[:, None])


def file_of(folder: Path) -> Path:
    (path,) = folder.rglob("*.npz")
    return path


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_kept_is_found_to_the_last_bit(tmp_path: Path, count: int) -> None:
    kept = features(count)
    FeatureStore(tmp_path).keep(KEY, kept)
    found = FeatureStore(tmp_path).find(KEY)
    assert found is not None
    assert found.times == kept.times
    assert found.vectors.dtype == np.float32
    assert np.array_equal(found.vectors, kept.vectors)
    assert FeatureStore(tmp_path).find("cd34") is None


def test_a_second_writer_replaces_the_whole_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.keep(KEY, features(3))
    store.keep(KEY, features(2, seed=1))
    found = store.find(KEY)
    assert found is not None
    assert len(found.times) == 2
    assert [path.name for path in file_of(tmp_path).parent.iterdir()] == [f"{KEY}.npz"]


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "other arrays", "unequal"])
def test_a_damaged_file_counts_as_absent(tmp_path: Path, damage: str) -> None:
    store = FeatureStore(tmp_path)
    store.keep(KEY, features())
    path = file_of(tmp_path)
    whole = path.read_bytes()
    if damage == "other arrays":
        np.savez(path, other=np.zeros(3))
    elif damage == "unequal":
        np.savez(path, times=np.zeros(2), vectors=np.zeros((3, 4), np.float32))
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "garbage": b"x" * 100}[damage])
    assert store.find(KEY) is None
    store.keep(KEY, features())
    assert store.find(KEY) is not None


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.keep(KEY, features())
    file_of(tmp_path).write_bytes(pickle.dumps({"times": [], "vectors": []}))
    assert store.find(KEY) is None


def test_a_place_that_cannot_be_written_is_named_with_its_override(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"paths\.cache") as raised:
        FeatureStore(tmp_path).keep(KEY, features())
    assert str(tmp_path) in str(raised.value)


def test_times_and_vectors_must_be_equally_many() -> None:
    with pytest.raises(ValueError, match="do not match"):
        Features((0.0,), np.zeros((2, 4), np.float32))
