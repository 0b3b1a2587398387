"""Frames from worker processes are those of one decoder in this process, bit for bit."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import write_cut_video
from made_clips import VIDEOS, Halving, half, write_video
from PIL import Image
from tiny import write_qwen2_5_vl
from tiny_yi_vl import write_yi_vl

from pipeline.domain import Span
from pipeline.errors import CrashedVideoError, MissingVideoError, VideoError
from pipeline.execution import reader as reading
from pipeline.execution.crashes import Crashes
from pipeline.execution.processes import Limits, Pool
from pipeline.execution.reader import FileUnits, Units, WorkerReader, in_workers, pieces
from pipeline.families.aria.processor import Canvas
from pipeline.families.loading.checkpoint import Checkpoint
from pipeline.families.qwen.processor import FrameSize
from pipeline.video import Reader
from pipeline.video.clip import ClipFrames, clip_of
from pipeline.video.fingerprint import file_fingerprint
from pipeline.video.preparing import OfPixels, PreparedHere, prepared_pictures

HERE = Reader("test", "auto", 1, 1.0)
COUNTED = {"mpeg4_b_frames.avi", "h264.avi"}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    made = Pool(Limits(workers=2, deadline=60.0, memory_bytes=2 << 30, waiting_bytes=1 << 28))
    yield made
    made.close()


@pytest.fixture(scope="module")
def there(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> WorkerReader:
    return in_workers(HERE, pool, Crashes(tmp_path_factory.mktemp("cache"), "auto", False))


@pytest.fixture(autouse=True)
def short_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many units out of short videos."""
    monkeypatch.setattr(reading, "UNIT", 7)


def drawn(stream: Iterator[Any]) -> tuple[list[Any], str]:
    found = []
    try:
        for each in stream:
            found.append(each)
    except VideoError as error:
        return found, f"{type(error).__name__} {error}"
    return found, ""


def assert_same(path: Path, seconds: list[float], there: WorkerReader) -> int:
    """Frames and failures of both; returns the number of frames."""
    with HERE.open(path) as source:
        wanted, failure = drawn(source.frames_at(seconds))
    with HERE.open(path) as source:
        wanted_small, small_failure = drawn(PreparedHere(source.frames_at(seconds), half))
    with there.open(path) as source:
        found, found_failure = drawn(source.frames_at(seconds))
        small, found_small_failure = drawn(prepared_pictures(source, seconds, half))
        assert source.indices_at(seconds[:3]) == [frame.index for frame in found[:3]]
    assert found_failure == failure
    assert found_small_failure == small_failure
    assert [(frame.time, frame.index) for frame in found] == [(frame.time, frame.index) for frame in wanted]
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(found, wanted, strict=True))
    assert [(each.time, each.index) for each in small] == [(each.time, each.index) for each in wanted_small]
    assert all(np.array_equal(one.content, other.content) for one, other in zip(small, wanted_small, strict=True))
    return len(found)


@pytest.mark.parametrize("name", VIDEOS)
def test_frames_are_identical(name: str, there: WorkerReader, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, **VIDEOS[name][0])
    assert there.look(path) == HERE.look(path)
    assert (there.times(path) == HERE.times(path)).all()
    times = HERE.times(path)
    for seconds in (times + 0.004, np.repeat(times[::9], 2) + 0.004, times[-2:]):
        assert assert_same(path, [*map(float, seconds)], there) == len(seconds)
    cut = list(pieces(HERE.scan(path), range(len(times)), lambda _: 7))
    assert [index for each in cut for index in each] == list(range(len(times)))
    assert len(cut) == 1 if name in COUNTED else len(cut) > 2


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_failures_come_after_the_same_frames(at: float, there: WorkerReader, tmp_path: Path) -> None:
    data = bytearray(write_video(tmp_path / "whole.mp4").read_bytes())
    place = int(len(data) * at)
    data[place : place + 600] = bytes(600)
    (tmp_path / "damaged.mp4").write_bytes(data)
    seconds = [index / 30 for index in range(120)]
    assert assert_same(tmp_path / "damaged.mp4", seconds, there) < 120
    cut = write_cut_video(tmp_path / "cut.mp4", seconds=12)
    assert 0 < assert_same(cut, [index / 4 for index in range(60)], there) < 48


def test_units_are_small_where_frames_take_long_or_workers_are_many(
    there: WorkerReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "UNIT", 64)
    path = write_video(tmp_path / "video.mp4", frames=480)
    units = FileUnits(HERE.probe(path), HERE.scan(path), there, (str(path), 0, 0))
    every = range(480)
    assert units._together(every) == 64
    assert units._together(range(0, 480, 24)) == 10  # for two workers
    assert units._seconds(range(0, 480, 24)) < units._seconds(every) / 10  # each is an entry
    monkeypatch.setattr(reading, "_PIXELS_A_SECOND", 160 * 96 * 10.0)
    assert 48 <= units._seconds(every) < 64
    assert 11 <= units._together(every) <= 15
    assert [len(each) for each in pieces(HERE.scan(path), every, lambda _: 15)] == [24] * 20  # to the next entry


def test_decoding_begins_before_the_file_is_hashed(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "video.mp4", frames=90)
    other = write_video(tmp_path / "other.mp4", frames=60)
    seconds = [0.0, 0.5, 1.0, 2.0]
    begun: list[tuple[str, int]] = []
    stream = Units.stream

    def noted(units: Units, indices: Any, *words: Any) -> Any:
        begun.append((units._video.fingerprint, len(indices)))
        return stream(units, indices, *words)

    monkeypatch.setattr(Units, "stream", noted)
    expected = [each.content for each in PreparedHere(HERE.open(path).frames_at(seconds), half)]

    def drawn_from(reader: WorkerReader, wanted: Any) -> list[Any]:
        with reader.open(path) as source:
            return [each.content for each in prepared_pictures(source, seconds, wanted)]

    reader = in_workers(HERE, pool, Crashes(tmp_path / "cache", "auto", False))
    reader.prefetch(str(path), lambda video: (seconds, half))
    assert reader.look(other).video.fingerprint
    assert not begun  # another one comes first
    assert reader.look(path).video.fingerprint == file_fingerprint(path)
    assert begun == [("", 4)]
    assert all(map(np.array_equal, drawn_from(reader, half), expected))
    assert begun == [("", 4)]
    assert all(map(np.array_equal, drawn_from(reader, half), expected))  # a second time
    assert [count for _, count in begun] == [4, 4]

    for wanted in (lambda video: (seconds[:2], half), lambda video: (seconds, OfPixels(np.asarray))):
        begun.clear()
        reader = in_workers(HERE, pool, Crashes(tmp_path / "cache", "auto", False))
        reader.prefetch(str(path), wanted)
        assert all(map(np.array_equal, drawn_from(reader, half), expected))
        assert len(begun) == 2  # what was begun is not what is asked for
    reader.prefetch(None, None)
    for _ in range(1200):
        if not pool.waiting_bytes:
            break
        time.sleep(0.05)
    assert pool.waiting_bytes == 0


def test_a_sampler_that_cannot_name_its_pictures_delays_nothing(pool: Pool, tmp_path: Path) -> None:
    def refuse(video: Any) -> Any:
        raise RuntimeError("no tokenizer")

    path = write_video(tmp_path / "video.mp4", frames=30)
    reader = in_workers(HERE, pool, Crashes(tmp_path / "cache", "auto", False))
    reader.prefetch(str(path), refuse)
    assert reader.look(path).video.frame_count == 30


def test_expected_videos_are_probed_before_they_are_asked_for(pool: Pool, tmp_path: Path) -> None:
    paths = [str(write_video(tmp_path / f"{number}.mp4", frames=30 + number)) for number in range(6)]
    missing = str(tmp_path / "missing.mp4")
    expecting = in_workers(HERE, pool, Crashes(None, "auto", False))
    expecting.expect([paths[0], missing, *paths[1:]])
    assert len(expecting._begun) == 4
    assert expecting.probe(paths[0]).frame_count == 30
    assert len(expecting._begun) == 4
    with pytest.raises(MissingVideoError):
        expecting.probe(missing)
    assert [expecting.probe(path).frame_count for path in paths[1:]] == [31, 32, 33, 34, 35]
    assert not expecting._begun


def test_a_clip_and_a_folder_of_images_are_read_alike(there: WorkerReader, tmp_path: Path) -> None:
    from PIL import Image

    path = write_video(tmp_path / "video.mp4")
    with there.open(path) as source:
        clip = clip_of(source.video, Span(1.0, 2.0))
        found = list(prepared_pictures(ClipFrames(clip, source), [1.0, 1.5], half))
        assert [picture.index for picture in found] == [30, 45]
        with pytest.raises(VideoError, match="not to be seen"):
            prepared_pictures(ClipFrames(clip, source), [3.0], half)
    for second in range(3):
        Image.new("RGB", (8, 8), (second, 0, 0)).save(tmp_path / f"sec{second:03}.png")
    path.unlink()
    with there.open(tmp_path) as source:
        assert [frame.pixels[0, 0, 0] for frame in source.frames_at([0.0, 2.0])] == [0, 2]


def test_images_of_a_folder_are_opened_in_workers_alone(
    there: WorkerReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    for second in range(20):
        Image.new("RGB", (8 + second, 8), (second, 0, 0)).save(tmp_path / f"sec{second:03}.png")
    assert assert_same(tmp_path, [0.0, 2.0, 2.5, *map(float, range(3, 20))], there) == 20
    (tmp_path / "sec012.png").write_bytes((tmp_path / "sec012.png").read_bytes()[:40])
    assert assert_same(tmp_path, [float(second) for second in range(20)], there) == 12  # also that it has changed
    expected = HERE.look(tmp_path)
    monkeypatch.delattr(Image, "open")
    assert there.look(tmp_path) == expected
    assert there.times(tmp_path).tolist() == list(range(20))
    with there.open(tmp_path) as source:
        assert [frame.pixels.shape for frame in source.frames_at([0.0, 5.0])] == [(8, 8, 3), (8, 13, 3)]


def test_what_cannot_be_sent_prepares_here(there: WorkerReader, tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4")
    seconds = [0.0, 0.5, 1.0, 3.0]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class Mine:\n    def __call__(self, frame):\n        return frame.pixels[:2].copy()", namespace)
    import __main__

    __main__.Mine = namespace["Mine"]  # type: ignore[attr-defined]  # as a class of a notebook
    try:
        with there.open(path) as source:
            for prepare in (lambda frame: frame.pixels[:2].copy(), namespace["Mine"]()):
                found = list(source.prepared_at(seconds, prepare))
                assert [picture.index for picture in found] == [0, 15, 30, 90]
                assert all(picture.content.shape == (2, 160, 3) for picture in found)
    finally:
        del __main__.Mine  # type: ignore[attr-defined]


def test_a_stream_is_decoded_before_it_is_drawn_and_tells_what_is_ready(there: WorkerReader, tmp_path: Path) -> None:
    import time

    path = write_video(tmp_path / "video.mp4")
    table = np.arange(256, dtype=np.uint16)[::-1].copy()
    with there.open(path) as source:
        stream = source.prepared_at([index / 30 for index in range(120)], Halving(table).prepare)
        limit = time.monotonic() + 60
        while not stream.ready(500) and time.monotonic() < limit:
            time.sleep(0.01)
        assert stream.ready(500)
        first = next(stream)
        with HERE.open(path) as other:
            assert np.array_equal(first.content, table[next(other.frames_at([0.0])).pixels[::2, ::2]])
        assert len(list(stream)) == 119
        unused = source.prepared_at([0.0], half)
        unused.close()
        assert list(unused) == []
    assert there.pool.waiting_bytes == 0


def test_a_file_that_crashes_its_reader_is_remembered(pool: Pool, tmp_path: Path) -> None:
    """By its content; not so where it was killed from outside."""
    path = write_video(tmp_path / "video.mp4")
    crashing = in_workers(HERE, pool, Crashes(tmp_path, "auto", False))
    with crashing.open(path) as source, pytest.raises(CrashedVideoError, match=r"SIGABRT.*\n.*execution.retry=crashed"):
        list(source.prepared_at([0.0], Bad("abort")))
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(path.read_bytes())
    for each in (path, copy):
        with pytest.raises(CrashedVideoError, match=r"in an earlier run crashed.*SIGABRT"):
            crashing.open(each)
    with pytest.raises(CrashedVideoError):  # the copy was never scanned, and is refused before it is
        in_workers(HERE, pool, Crashes(tmp_path, "auto", False)).look(copy)
    again = replace(crashing, crashes=Crashes(tmp_path, "auto", True))
    with again.open(path) as source:
        assert len(list(source.frames_at([0.0, 1.0]))) == 2
    with crashing.open(path) as source, pytest.raises(CrashedVideoError, match="SIGKILL"):
        list(source.prepared_at([0.0], Bad("die")))
    with crashing.open(path) as source:
        assert len(list(source.frames_at([0.0]))) == 1


def test_a_folder_of_images_that_crashes_its_reader_is_remembered(pool: Pool, tmp_path: Path) -> None:
    """By names and content of its images, wherever it lies."""
    folder, copy = tmp_path / "folder", tmp_path / "copy"
    folder.mkdir()
    for second in range(3):
        Image.new("RGB", (8, 8), (second, 0, 0)).save(folder / f"sec{second}.png")
    shutil.copytree(folder, copy)
    crashing = in_workers(HERE, pool, Crashes(tmp_path / "cache", "auto", False))
    with crashing.open(folder) as source, pytest.raises(CrashedVideoError, match=r"SIGABRT.*\n.*update Pillow"):
        list(source.prepared_at([0.0], Bad("abort")))
    for each in (folder, copy):
        with pytest.raises(CrashedVideoError, match=r"in an earlier run crashed.*SIGABRT"):
            crashing.open(each)
    with replace(crashing, crashes=Crashes(tmp_path / "cache", "auto", True)).open(folder) as source:
        assert len(list(source.frames_at([0.0, 1.0]))) == 2
    with crashing.open(copy) as source:  # forgiven
        assert len(list(source.frames_at([2.0]))) == 1


def test_a_video_that_had_too_little_time_is_tried_again_with_more(tmp_path: Path) -> None:
    path = tmp_path / "video"
    path.write_bytes(b"a")

    def crashes(deadline: float) -> Crashes:
        return Crashes(tmp_path, "auto", False, deadline)

    for within in (0.5, 2.0):  # the later time counts
        crashes(within).note(file_fingerprint(path), "did not come to an end", within)
    with pytest.raises(CrashedVideoError, match="in an earlier run did not come to an end"):
        crashes(2.0).check(file_fingerprint(path), path)
    crashes(2.5).check(file_fingerprint(path), path)
    crashes(2.5).note(file_fingerprint(path), "crashed the process")
    with pytest.raises(CrashedVideoError):
        crashes(9.0).check(file_fingerprint(path), path)


class Bad:
    """A resize that crashes as in :mod:`bad_jobs`."""

    def __init__(self, act: str) -> None:
        self.act = act

    def __call__(self, frame: Any) -> Any:
        import bad_jobs

        getattr(bad_jobs, self.act)()


class TellsModules:
    """Prepares, and tells what that imported."""

    def __init__(self, prepare: Any) -> None:
        self.prepare = prepare

    def __call__(self, frame: Any) -> Any:
        import sys

        return self.prepare(frame), sorted({"torch", "transformers"} & set(sys.modules))


@pytest.mark.parametrize("write", [write_qwen2_5_vl, write_yi_vl], ids=["qwen2_5_vl", "yi_vl"])
def test_a_familys_processor_prepares_in_a_worker_without_torch(
    write: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    frame = FrameSize(56, 84) if write is write_qwen2_5_vl else Canvas("none")
    checkpoint = Checkpoint(
        source=str(write(tmp_path_factory.mktemp("checkpoint"))),
        revision=None,
        dtype="float32",
        attention="sdpa",
        device="cpu",
    )
    processor = frame.opened(checkpoint).processor
    path = write_video(tmp_path / "video.mp4")
    pool = Pool(Limits(workers=1, deadline=60.0, memory_bytes=2 << 30, waiting_bytes=1 << 28))
    try:
        prepare = TellsModules(OfPixels(processor.without_words().prepare))
        assert len(pickle.dumps(prepare)) < 10_000  # the tokenizer stays here
        with in_workers(HERE, pool, Crashes(None, "auto", False)).open(path) as source:
            [picture] = source.prepared_at([1.0], prepare)
    finally:
        pool.close()
    with HERE.open(path) as source:
        wanted = processor.prepare(next(source.frames_at([1.0])).pixels)
    found, modules = picture.content
    assert modules == []
    assert found.shape == wanted.shape
    assert np.array_equal(found.pixels, wanted.pixels)


def test_files_in_memory_are_closed_when_a_video_is_and_not_when_garbage_is_collected(
    pool: Pool, tmp_path: Path
) -> None:
    def open_files() -> int:
        links = (os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink())
        return sum(link.startswith("/memfd:parcel") for link in links)

    reader = in_workers(HERE, pool, Crashes(tmp_path / "cache", "auto", False))
    paths = [write_cut_video(tmp_path / f"{number}.mp4", share=1.0 - number / 20) for number in range(4)]
    counts, held = [], []
    gc.collect()
    before = open_files()
    gc.disable()
    try:
        for number, path in enumerate(paths):
            with reader.open(path) as source:
                stream = prepared_pictures(source, [index / 4 for index in range(12)], half)
                drawn(stream) if number % 2 else next(stream)  # to the end, and left in the middle
                stream.close()
            held.append((source, stream))  # as samplers do, until garbage is collected
            limit = time.monotonic() + 60
            while open_files() > before and time.monotonic() < limit:  # the thread of the pool lets go of the last task
                time.sleep(0.02)
            counts.append(open_files())
    finally:
        gc.enable()
    assert counts == [before] * 4
