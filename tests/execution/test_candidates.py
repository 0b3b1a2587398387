"""Prepared candidates are decoded once for all samplers that have the same, and are the same bit for bit."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import gens
from made_clips import Halving, half, write_video
from store_writers import MOST, store_and_find
from tiny import write_qwen2_5_vl

from pipeline.domain import PreparedPicture
from pipeline.errors import VideoError
from pipeline.execution import candidates
from pipeline.execution.candidates import CandidateStore
from pipeline.execution.crashes import Crashes
from pipeline.execution.processes import Limits, Pool
from pipeline.execution.reader import WorkerReader, in_workers
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.qwen.processor import FrameSize
from pipeline.video import Reader
from pipeline.video.metering import MeteredFrames
from pipeline.video.preparing import OfPixels

SECONDS = [index / 10 for index in range(40)]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    made = Pool(Limits(workers=1, deadline=60.0, memory_bytes=2 << 30, waiting_bytes=1 << 28))
    yield made
    made.close()


@pytest.fixture
def tasks(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of decode tasks, one entry for each stream that was decoded."""
    submit, seen = pool.submit, []

    def counted(given: Any) -> None:
        seen.extend([len(given)] if hasattr(given[0].job, "indices") else [])
        submit(given)

    monkeypatch.setattr(pool, "submit", counted)
    return seen


def storing(pool: Pool, cache: Path, most_bytes: int = 1 << 30) -> WorkerReader:
    return in_workers(
        Reader("test", "auto", 1, 1.0), pool, Crashes(None, "auto", False), CandidateStore(cache, most_bytes)
    )


def drawn(reader: WorkerReader, path: Path, prepare: Any = half, seconds: Any = SECONDS) -> list[PreparedPicture]:
    with reader.open(path) as source:
        return list(source.prepared_at(seconds, prepare))


def stored(cache: Path) -> list[Path]:
    return sorted((cache / "candidates").iterdir()) if (cache / "candidates").exists() else []


def same(found: Any, wanted: Any) -> bool:
    def pixels(content: Any) -> Any:
        return getattr(content, "pixels", content)

    return all(
        (one.time, one.index, type(one.content), getattr(one.content, "shape", None))
        == (other.time, other.index, type(other.content), getattr(other.content, "shape", None))
        and pixels(one.content).dtype == pixels(other.content).dtype
        and np.array_equal(pixels(one.content), pixels(other.content))
        for one, other in zip(found, wanted, strict=True)
    )


def opened(source: Path, height: int) -> Any:
    checkpoint = Checkpoint(source=str(source), revision=None, dtype="float32", attention="sdpa", device="cpu")
    return OfPixels(FrameSize(height, 84).opened(checkpoint).processor.without_words().prepare)


def test_a_sampler_with_the_same_candidates_decodes_nothing(
    pool: Pool, tasks: list[int], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_video(tmp_path / "video.mp4")
    checkpoint = write_qwen2_5_vl(tmp_path_factory.mktemp("checkpoint"))
    cache = tmp_path / "cache"
    wanted = drawn(replace(storing(pool, cache), candidates=None), path, opened(checkpoint, 56))
    assert (len(tasks), stored(cache)) == (1, [])
    first = drawn(storing(pool, cache), path, opened(checkpoint, 56))
    assert (len(tasks), len(stored(cache))) == (2, 1)
    copy = shutil.copy(path, tmp_path / "copy.mp4")  # by content, and by what another job makes of its checkpoint
    again = drawn(storing(pool, cache), Path(copy), opened(checkpoint, 56))
    assert len(tasks) == 2
    assert same(first, wanted)
    assert same(again, wanted)
    drawn(storing(pool, cache), path, opened(checkpoint, 84))
    drawn(storing(pool, cache), path, opened(checkpoint, 56), SECONDS[1:])
    assert (len(tasks), len(stored(cache))) == (4, 3)


def test_frames_that_were_decoded_for_stored_pictures_are_not_spent_again(pool: Pool, tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", codec="mpeg4", b_frames=0)  # decoding can start at every 24th frame

    def walked(seconds: list[float]) -> tuple[float, float]:
        with storing(pool, tmp_path / "cache").open(path) as source:
            frames = MeteredFrames(source)
            assert len(list(frames.prepared_at(seconds, half))) == len(seconds)
        return frames.figures()["frames_walked"], frames.alone()["frames_walked"]

    assert walked([0.0, 0.5]) == (16, 16)
    assert walked([0.0, 0.5]) == (0, 16)
    assert walked([3.0]) == (19, 19)  # 72 to 90
    with storing(pool, tmp_path / "other").open(path) as source:  # frames as they are, over the same workers
        assert [frame.walked for frame in source.frames_at([0.0, 0.5, 0.5, 3.0])] == [1, 15, 15, 19]


def test_another_decoder_or_code_is_another_entry(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CandidateStore(tmp_path, 1 << 30)
    table = np.arange(256, dtype=np.uint16)
    keys = [
        store.key("video", "pyav", [0, 1], Halving(table).prepare),
        store.key("other", "pyav", [0, 1], Halving(table).prepare),
        store.key("video", "decord", [0, 1], Halving(table).prepare),
        store.key("video", "pyav", [0, 2], Halving(table).prepare),
        store.key("video", "pyav", [0, 1], Halving(table[::-1]).prepare),
    ]
    assert store.key("video", "pyav", [0, 1], Halving(table.copy()).prepare) == keys[0]
    assert store.key("video", "pyav", [0, 1], lambda pixels: pixels) is None
    monkeypatch.setattr(candidates, "source_of", lambda kind: "edited")
    keys.append(store.key("video", "pyav", [0, 1], Halving(table).prepare))
    monkeypatch.setattr(candidates, "source_of", lambda kind: None)
    assert store.key("video", "pyav", [0, 1], Halving(table).prepare) is None
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_only_whole_streams_are_stored(pool: Pool, tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4")
    reader = storing(pool, tmp_path)
    with reader.open(path) as source:
        stream = source.prepared_at(SECONDS, half)
        next(stream)
        assert [file.suffix for file in stored(tmp_path)] == [".part"]
        stream.close()
        assert stored(tmp_path) == []
        stream = source.prepared_at(SECONDS, half)
        next(stream)
        del stream
        assert stored(tmp_path) == []
    with pytest.raises(VideoError):
        drawn(reader, path, half, [*SECONDS, 99.0])
    drawn(reader, path, as_list)
    assert stored(tmp_path) == []


def as_list(frame: Any) -> Any:
    return [int(frame.pixels[0, 0, 0])]


@pytest.mark.parametrize("place", [0, 0.5, -100, -3, None])
def test_a_damaged_entry_is_a_miss(pool: Pool, tasks: list[int], tmp_path: Path, place: float | None) -> None:
    path = write_video(tmp_path / "video.mp4")
    wanted = drawn(storing(pool, tmp_path), path)
    [entry] = stored(tmp_path)
    content = bytearray(entry.read_bytes())
    if place is None:
        del content[len(content) // 2 :]
    else:
        content[int(place * len(content)) if 0 < place < 1 else int(place)] ^= 1
    entry.write_bytes(content)
    assert same(drawn(storing(pool, tmp_path), path), wanted)
    assert len(tasks) == 2
    for _ in range(2):  # and is stored again
        assert same(drawn(storing(pool, tmp_path), path), wanted)
    assert len(tasks) <= 3
    assert len(stored(tmp_path)) == 1


def test_videos_used_least_recently_go_first(pool: Pool, tasks: list[int], tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{number}.mp4", frames=120 + number) for number in range(3)]
    drawn(storing(pool, tmp_path), paths[0])
    [entry] = stored(tmp_path)
    reader = storing(pool, tmp_path, int(2.5 * entry.stat().st_size))
    os.utime(entry, (1, 1))
    drawn(reader, paths[1])
    for each in stored(tmp_path):
        os.utime(each, (2, 2) if each != entry else (1, 1))
    drawn(reader, paths[0])  # now the one used last
    left = tmp_path / "candidates" / ".left.part"
    left.write_bytes(bytes(1000))
    os.utime(left, (time.time() - 7200,) * 2)
    drawn(reader, paths[2])
    assert len(stored(tmp_path)) == 2
    assert entry in stored(tmp_path)
    count = len(tasks)
    drawn(reader, paths[0])
    drawn(reader, paths[2])
    assert len(tasks) == count
    small = storing(pool, tmp_path, 1000)
    assert len(drawn(small, paths[1])) == 40
    assert len(stored(tmp_path)) == 2


@pytest.mark.parametrize("obstacle", ["full", "nearly full", "a file in its place"])
def test_a_full_disk_ends_the_store_and_not_the_run(
    pool: Pool, tmp_path: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_space(_: Any) -> memoryview:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_video(tmp_path / "video.mp4")
    if obstacle == "full":
        monkeypatch.setattr(candidates, "_bytes_of", no_space)
    elif obstacle == "nearly full":
        monkeypatch.setattr(candidates, "_SPARE_BYTES", 1 << 62)
    else:
        (tmp_path / "candidates").write_text("")
    reader = storing(pool, tmp_path)
    for _ in range(2):
        assert len(drawn(reader, path)) == 40
    assert capsys.readouterr().err.count("prepared candidates are not stored in") == 1
    assert obstacle == "a file in its place" or stored(tmp_path) == []


def test_the_jobs_of_a_sweep_share_and_a_single_run_stores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "video.mp4")
    row = {"id": "q", "video": "video.mp4", "question": "?", "options": ["a", "b"], "answer": "a"}
    (tmp_path / "q.jsonl").write_text(json.dumps(row))
    find, found = CandidateStore.find, []

    def noting(*given: Any) -> Any:
        found.append(find(*given))
        return found[-1]

    monkeypatch.setattr(CandidateStore, "find", noting)
    common = ("benchmark=jsonl", "benchmark.path=q.jsonl", "sampler=gens_micro", "execution.decode_workers=1")
    done = gens("sample", *common, "sampler.max_new_tokens=3", cwd=tmp_path)
    assert done.returncode < 2, done.stderr  # a tiny video, of which the model has little to say
    assert found == stored(tmp_path / "cache") == []
    done = gens("sample", "-m", *common, "sampler.max_new_tokens=4,5", cwd=tmp_path)
    assert done.returncode < 2, done.stderr  # a tiny video, of which the model has little to say
    assert [type(each).__name__ for each in found] == ["NoneType", "StoredPictures"]
    assert len(stored(tmp_path / "cache")) == 1


def test_jobs_in_several_processes_share_a_store_that_is_too_small_for_all(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, get_context("spawn")) as processes:
        hits = list(processes.map(store_and_find, [tmp_path] * 3, range(3)))
    assert min(hits) > 0
    assert stored(tmp_path), "an entry is whole or absent"
    assert {path.suffix for path in stored(tmp_path)} == {".pictures"}
    assert sum(path.stat().st_size for path in stored(tmp_path)) <= MOST
    for path in stored(tmp_path):
        key = int(path.name[0])
        found = CandidateStore(tmp_path, MOST).find(f"{key}-k", range(5), lambda _: pytest.fail("a damaged picture"))
        assert [each.content[0, 0] for each in found] == [10 * key + at for at in range(5)]
