"""A cache entry that is damaged, cut or of another kind is computed again: no entry ends a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.answerers.openai_replies import Reply, ReplyStore
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.features import Features, FeatureStore
from pipeline.domain import Answer, Relevance

KEY = "0123456789abcdef"


def features(folder: Path) -> Callable[[], Any]:
    store = FeatureStore(folder)
    store.keep(KEY, Features((0.0, 1.0), np.eye(2, 4, dtype=np.float32)))
    return lambda: store.find(KEY)


def relevances(folder: Path) -> Callable[[], Any]:
    cache = RelevanceCache(folder)
    cache.keep(KEY, Relevance("q", (0.0, 1.0), (5.0, 0.5)))
    return lambda: cache.find(KEY, "q")


def answers(folder: Path) -> Callable[[], Any]:
    cache = AnswerCache(folder)
    cache.keep(KEY, Answer("q", "B", option=1))
    return lambda: cache.find(KEY, "q")


def replies(folder: Path) -> Callable[[], Any]:
    store = ReplyStore(folder)
    store.keep(KEY, Reply("B", "stop", "", 10, 1))
    return lambda: store.find(KEY)


def damaged(content: bytes) -> Iterator[bytes]:
    for place in range(0, len(content), 3):
        for bit in (1, 16, 128):
            yield content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
    yield from (content[:length] for length in range(0, len(content), 5))
    yield from (b"", b"\xff\xfe", b"null", b"[]", b"3", b'"x"', b"{}", b'{"times": "x"}', b"[" * 100_000, content * 2)


@pytest.mark.parametrize("kind", [features, relevances, answers, replies])
def test_a_damaged_entry_is_a_miss_or_an_entry(tmp_path: Path, kind: Callable[[Path], Callable[[], Any]]) -> None:
    find = kind(tmp_path)
    whole = find()
    assert whole is not None
    (path,) = (path for path in tmp_path.rglob(f"{KEY}*") if path.is_file())
    content = path.read_bytes()
    misses = 0
    for bad in damaged(content):
        path.write_bytes(bad)
        found = find()
        assert found is None or type(found) is type(whole)
        misses += found is None
    assert misses > len(content) // 5
