from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artefacts.cache import RelevanceCache
from pipeline.domain import Cost, Relevance, Status, WindowOutput
from pipeline.errors import StorageError
from pipeline.identity import relevance_key

RELEVANCE = Relevance(
    "q1",
    (0.0, 1.001, 2.002),
    (0.0, 5.0, 3.0),
    windows=(WindowOutput(0.0, 2.002, '{"1": 5}', Status.OK),),
    cost=Cost(1.5, 100, 7),
)


def test_a_kept_relevance_comes_back_under_the_asking_question(tmp_path: Path) -> None:
    cache = RelevanceCache(tmp_path)
    cache.keep("abc", RELEVANCE)
    found = RelevanceCache(tmp_path).find("abc", "another id")
    assert found is not None
    assert found.question_id == "another id"
    assert (found.times, found.scores, found.windows, found.cost) == (
        RELEVANCE.times,
        RELEVANCE.scores,
        RELEVANCE.windows,
        RELEVANCE.cost,
    )


def test_the_key_changes_with_each_part_and_with_nothing_else() -> None:
    base = relevance_key("video", "query", {"fps": 1.0, "window": 256})
    assert base == relevance_key("video", "query", {"window": 256, "fps": 1.0})
    others = {
        relevance_key("other", "query", {"fps": 1.0, "window": 256}),
        relevance_key("video", "other", {"fps": 1.0, "window": 256}),
        relevance_key("video", "query", {"fps": 2.0, "window": 256}),
        relevance_key("video", "query", {"fps": 1.0, "window": 256, "revision": "a"}),
    }
    assert len(others | {base}) == 5


MAY_PASS = {
    *(Status.MISSING_VIDEO, Status.UNREADABLE_VIDEO, Status.CHANGED_VIDEO),
    *(Status.MISSING_SUBTITLES, Status.UNREADABLE_SUBTITLES),
    *(Status.UNREACHABLE, Status.OUT_OF_MEMORY, Status.INVALID_OUTPUT, Status.JUDGE_FAILED),
}


@pytest.mark.parametrize("status", Status)
def test_only_failures_that_may_pass_are_not_kept(tmp_path: Path, status: Status) -> None:
    cache = RelevanceCache(tmp_path)
    cache.keep("abc", Relevance("q", (), (), status=status))
    assert (cache.find("abc", "q") is None) is (status in MAY_PASS)


def test_scores_with_a_window_that_did_not_fit_the_memory_are_not_kept(tmp_path: Path) -> None:
    windows = (*RELEVANCE.windows, WindowOutput(3.0, 5.0, "", Status.OUT_OF_MEMORY))
    cache = RelevanceCache(tmp_path)
    cache.keep("abc", replace(RELEVANCE, status=Status.PARTIAL_SCORES, windows=windows))
    assert cache.find("abc", "q") is None


def test_failures_that_come_again_are_kept(tmp_path: Path) -> None:
    cache = RelevanceCache(tmp_path)
    cache.keep("abc", Relevance("q", (), (), status=Status.NO_SCORES, detail="prose"))
    found = cache.find("abc", "q")
    assert found is not None
    assert found.status is Status.NO_SCORES


def test_an_entry_of_another_schema_is_computed_afresh(tmp_path: Path) -> None:
    cache = RelevanceCache(tmp_path)
    cache.keep("abc", RELEVANCE)
    next((tmp_path / "relevance").glob("*/abc.json")).write_text('{"old": 1}')
    assert cache.find("abc", "q") is None
    cache.keep("abc", RELEVANCE)
    assert cache.find("abc", "q1") == RELEVANCE


def test_an_unwritable_cache_names_the_override(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"paths\.cache"):
        RelevanceCache(tmp_path / "file").check_writable()


def _keep_many(folder: Path, times: int) -> None:
    cache = RelevanceCache(folder)
    for _ in range(times):
        cache.keep("shared", RELEVANCE)
        assert cache.find("shared", "q1") == RELEVANCE


def test_two_processes_may_write_the_same_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_keep_many, args=(tmp_path, 50)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["shared.json"]
