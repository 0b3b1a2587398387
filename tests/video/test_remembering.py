"""A probe is kept as long as the file is the same, and never longer."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from made import write_cut_video, write_video
from PIL import Image

from pipeline.errors import MissingVideoError, UnsupportedVideoError, VideoError
from pipeline.video import probe, probing
from pipeline.video import scan as scanning
from pipeline.video.remembering import RememberingReader


def reader(store: Path | None) -> RememberingReader:
    return RememberingReader(name="test", backend="pyav", threads=1, image_fps=1.0, probe_store=store)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_video(tmp_path / "film.mp4", seconds=3)


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at a file from here on is told."""

    def refuse(*_: object) -> None:
        raise AssertionError("the file was looked at again")

    monkeypatch.setattr(probing, "scan", refuse)
    monkeypatch.setattr(probing, "file_fingerprint", refuse)


def test_an_unchanged_file_is_looked_at_once(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = reader(tmp_path / "cache").probe(film)
    assert first == probe(film)
    blind(monkeypatch)
    assert reader(tmp_path / "cache").probe(film) == first
    with reader(tmp_path / "cache").open(film) as opened:
        assert opened.video == first
        assert [frame.time for frame in opened.frames_at([0.0, 2.0])] == [0.0, 2.0]


@pytest.mark.parametrize("name", ["film.mp4", "film.ts", "film.avi"])
def test_a_file_is_gone_through_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_video(tmp_path / name, seconds=6)
    if name == "film.ts":
        film.write_bytes(film.read_bytes() * 2)  # two recordings with a clock each
    mine = reader(tmp_path / "cache")
    seconds = [0.1, 2.6, 5.9]
    with mine.open(film) as opened:
        first = [frame.pixels for frame in opened.frames_at(seconds)]
    known = mine.scan(film)

    def refuse(*_: object) -> None:
        raise AssertionError("the file was gone through again")

    scanning._scan.cache_clear()
    monkeypatch.setattr(scanning, "read_packets", refuse)
    with reader(tmp_path / "cache").open(film) as opened:
        assert all(map(np.array_equal, first, (frame.pixels for frame in opened.frames_at(seconds))))
    again = reader(tmp_path / "cache").scan(film)
    for part, kept in ((known, again), (known.packets, again.packets), (known.timeline, again.timeline)):
        for field in fields(part):
            if field.name not in ("packets", "timeline", "others"):
                assert np.array_equal(getattr(part, field.name), getattr(kept, field.name)), field.name
    for kept_file in (tmp_path / "cache").rglob("*.npz"):
        kept_file.write_bytes(kept_file.read_bytes()[:-30])
    with pytest.raises(VideoError, match="gone through again"):
        reader(tmp_path / "cache").open(film)


def test_a_file_that_changed_is_looked_at_again(film: Path, tmp_path: Path) -> None:
    mine = reader(tmp_path / "cache")
    first = mine.probe(film)
    write_video(film, seconds=5, seed=1)
    assert mine.probe(film).duration == pytest.approx(5)
    os.utime(film, (1, 1))  # the same bytes again, and nobody can know
    assert mine.probe(film).fingerprint != first.fingerprint


def test_a_change_that_keeps_the_size_is_noticed_by_its_time(film: Path, tmp_path: Path) -> None:
    first = reader(tmp_path / "cache").probe(film)
    content = film.read_bytes()
    film.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(film, (1, 1))
    assert reader(tmp_path / "cache").probe(film).fingerprint != first.fingerprint


def test_a_cut_file_says_how_much_of_it_is_there(tmp_path: Path) -> None:
    cut = write_cut_video(tmp_path / "cut.mp4", seconds=30)
    for _ in range(2):  # found out, then remembered
        found = reader(tmp_path / "cache").look(cut)
        assert found.video.duration == pytest.approx(30, abs=0.6)
        assert found.readable < 25


def test_what_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    mine = reader(tmp_path / "cache")
    path = tmp_path / "film.mp4"
    with pytest.raises(MissingVideoError):
        mine.probe(path)
    path.write_text("no film")
    with pytest.raises(UnsupportedVideoError):
        mine.probe(path)
    write_video(path, seconds=2)
    assert mine.probe(path).duration == pytest.approx(2)


def test_a_damaged_or_unusable_store_costs_time_alone(film: Path, tmp_path: Path) -> None:
    mine = reader(tmp_path / "cache")
    first = mine.probe(film)
    for kept in (tmp_path / "cache").rglob("*.json"):
        kept.write_text("{")
    assert mine.probe(film) == first
    (tmp_path / "file").write_text("")
    assert reader(tmp_path / "file").probe(film) == first
    assert reader(None).probe(film) == first


def test_a_folder_of_images_is_known_by_its_images(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for second in range(3):
        picture = np.full((32, 32, 3), second, np.uint8)
        Image.fromarray(picture).save(folder / f"sec{second:03d}.png")
    mine = reader(tmp_path / "cache")
    first = mine.probe(folder)
    assert first == probe(folder) == mine.probe(folder)
    Image.fromarray(np.full((32, 32, 3), 9, np.uint8)).save(folder / "sec003.png")
    assert mine.probe(folder).duration == 4


def test_a_folder_of_numbered_images_is_known_by_its_rate_too(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(folder / f"{number}.png")
    mine = reader(tmp_path / "cache")
    assert [replace(mine, image_fps=fps).probe(folder).duration for fps in (1.0, 2.0, 1.0)] == [4, 2, 4]


def test_a_name_that_no_disk_can_hold_is_an_error_of_this_video_alone(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="cannot be read"):
        probing.look(tmp_path / f"{'x' * 300}.mp4", 1.0)
