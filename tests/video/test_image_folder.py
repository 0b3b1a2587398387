"""A folder of images is a video."""

from __future__ import annotations

from pathlib import Path

import pytest
from barcode_videos import barcode, read_barcode
from PIL import Image

from pipeline.domain import Relevance
from pipeline.errors import EmptyVideoError, TruncatedVideoError, UnsupportedVideoError, VideoError
from pipeline.selection.policy import Policy
from pipeline.selection.topk import TopK
from pipeline.video import Reader, candidate_times, probe


def write_images(folder: Path, names: dict[str, int]) -> Path:
    folder.mkdir()
    for name, index in names.items():
        Image.fromarray(barcode(index)).save(folder / name)
    return folder


def reader(image_fps: float = 1.0) -> Reader:
    return Reader(name="test", backend="auto", threads=1, image_fps=image_fps)


def test_the_number_in_the_name_is_the_second(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", {f"sec{second:03d}.png": second for second in (0, 1, 2, 5, 12)})
    with reader().open(folder) as source:
        assert source.backend == "images"
        assert (source.video.duration, source.video.frame_count) == (13.0, 5)
        frames = list(source.frames_at([0, 2, 4.9, 5, 11, 12, 12.9]))
    assert [read_barcode(frame.pixels) for frame in frames] == [0, 2, 2, 5, 5, 12, 12]
    assert [frame.time for frame in frames] == [0, 2, 2, 5, 5, 12, 12]
    assert [frame.index for frame in frames] == [0, 2, 2, 3, 3, 4, 4]


def test_numbered_images_come_at_the_declared_rate(tmp_path: Path) -> None:
    # Sorted as text, 10 would come before 2.
    folder = write_images(tmp_path / "frames", {f"img_{number}.jpg": number for number in range(1, 13)})
    with reader(image_fps=4).open(folder) as source:
        assert source.video == reader(image_fps=4).probe(folder)
        assert (source.video.duration, source.video.fps) == (3.0, 4.0)
        frames = list(source.frames_at([0, 0.5, 2.75]))
    assert [read_barcode(frame.pixels) for frame in frames] == [1, 3, 12]
    assert probe(folder).duration == 12.0


def test_a_folder_may_begin_in_the_middle_of_a_film(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", {f"sec{second}.png": second for second in range(100, 151)})
    video = probe(folder)
    assert (video.start, video.duration, video.fps) == (100.0, 151.0, 1.0)
    assert candidate_times(video, 1.0) == tuple(float(second) for second in range(100, 151))
    uniform = Policy("topk", 3, TopK(), "spread", "all", "none", "none", "linspace")
    selection = uniform.select(Relevance("q", (), (), spread="linspace"), video)
    assert [(frame.time, frame.index) for frame in selection.frames] == [(100.0, 0), (125.0, 25), (150.0, 50)]
    with reader().open(folder) as source:
        shown = list(source.frames_at([frame.time for frame in selection.frames]))
    assert [read_barcode(frame.pixels) for frame in shown] == [100, 125, 150]


def test_another_rate_is_another_video(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", {f"img_{number}.jpg": number for number in range(1, 5)})
    assert probe(folder, image_fps=1).fingerprint != probe(folder, image_fps=2).fingerprint


def test_fingerprint_is_of_names_and_bytes(tmp_path: Path) -> None:
    one = write_images(tmp_path / "one", {"sec0.png": 0, "sec1.png": 1})
    same = write_images(tmp_path / "same", {"sec0.png": 0, "sec1.png": 1})
    renamed = write_images(tmp_path / "renamed", {"sec0.png": 0, "sec2.png": 1})
    repainted = write_images(tmp_path / "repainted", {"sec0.png": 0, "sec1.png": 2})
    assert probe(one).fingerprint == probe(same).fingerprint
    assert len({probe(folder).fingerprint for folder in (one, renamed, repainted)}) == 3


def test_folders_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(EmptyVideoError):
        probe(tmp_path / "nothing")
    with pytest.raises(UnsupportedVideoError, match="cover"):
        probe(write_images(tmp_path / "unnumbered", {"cover.png": 0, "img1.png": 1}))
    with pytest.raises(UnsupportedVideoError, match="two images"):
        probe(write_images(tmp_path / "twice", {"img1.png": 0, "img01.png": 1}))


def test_a_damaged_image_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", {f"sec{second}.png": second for second in range(4)})
    (folder / "sec2.png").write_bytes((folder / "sec2.png").read_bytes()[:300])
    with reader().open(folder) as source:
        stream = source.frames_at(candidate_times(source.video, 1.0))
        assert [next(stream).index, next(stream).index] == [0, 1]
        with pytest.raises(TruncatedVideoError, match=r"sec2\.png"):
            next(stream)
        with pytest.raises(VideoError, match="behind the end"):
            list(source.frames_at([40.0]))
