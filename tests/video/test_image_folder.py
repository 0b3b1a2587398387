"""A folder of images is a video."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
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
    assert {frame.walked for frame in frames} == {1}  # no image depends on another


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
    longer = write_images(tmp_path / "longer", {"sec00.png": 0, "sec01.png": 1})  # at the same seconds
    repainted = write_images(tmp_path / "repainted", {"sec0.png": 0, "sec1.png": 2})
    assert probe(one).fingerprint == probe(same).fingerprint
    assert len({probe(folder).fingerprint for folder in (one, renamed, longer, repainted)}) == 4


def test_folders_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(EmptyVideoError):
        probe(tmp_path / "nothing")
    with pytest.raises(UnsupportedVideoError, match="cover"):
        probe(write_images(tmp_path / "unnumbered", {"cover.png": 0, "img1.png": 1}))
    with pytest.raises(UnsupportedVideoError, match=r"img01\.png and img1\.png have the same number"):
        probe(write_images(tmp_path / "twice", {"img1.png": 0, "img01.png": 1}))
    for far in ("img20240131235959.png", f"img{'9' * 200}.png"):
        with pytest.raises(UnsupportedVideoError, match="more than a week"):
            probe(write_images(tmp_path / far, {"img1.png": 0, far: 1}))


def test_what_is_beside_the_images_is_passed_over(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", {f"frame_{number:04d}.jpg": number for number in range(6)})
    alone = probe(folder)
    for number in range(6):
        (folder / f"._frame_{number:04d}.jpg").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt", ".hidden.png", "sec.json"):
        (folder / name).write_bytes(b"\0\0\0\1Bud1")
    (folder / "frame_0007.jpg").mkdir()
    os.mkfifo(folder / "frame_0008.jpg")
    with reader().open(folder) as source:
        assert source.video == alone
        assert [read_barcode(frame.pixels) for frame in source.frames_at(range(6))] == list(range(6))


def test_a_folder_of_companion_files_alone_is_empty(tmp_path: Path) -> None:
    (tmp_path / "._sec000.jpg").write_bytes(b"\0\5\x16\7")
    with pytest.raises(EmptyVideoError, match="no images"):
        probe(tmp_path)


def test_a_link_to_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", {"sec0.png": 0, "sec2.png": 2})
    (folder / "sec1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(VideoError, match=r"sec1\.png"):
        probe(folder)


def test_names_need_not_be_utf_8(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", {"caf\udce9_1.png": 1, "caf\udce9_2.png": 2})
    with reader().open(folder) as source:
        assert [read_barcode(frame.pixels) for frame in source.frames_at([0, 1])] == [1, 2]


def test_every_kind_of_image_is_shown_as_a_viewer_does(tmp_path: Path) -> None:
    picture = barcode(5)
    shown = Image.fromarray(picture)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned a quarter clockwise
    grey = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    alpha = shown.copy()
    alpha.putalpha(0)
    folder = tmp_path / "kinds"
    folder.mkdir()
    shown.rotate(90, expand=True).save(folder / "sec0.jpg", exif=turned, quality=95)
    shown.quantize(256).save(folder / "sec1.png")
    alpha.save(folder / "sec2.png")
    alpha.save(folder / "sec3.webp", lossless=True, exact=True)
    shown.convert("CMYK").save(folder / "sec4.jpg", quality=95)
    shown.save(folder / "sec5.bmp")
    Image.fromarray(grey).save(folder / "sec6.png")
    Image.fromarray(picture[:3, :2]).save(folder / "sec7.png")
    Image.fromarray(picture[:, :, 0] > 127).save(folder / "sec8.png")
    with reader().open(folder) as source:
        assert (source.video.width, source.video.height) == (160, 96)
        *barcodes, sixteen, small, one_bit = [frame.pixels for frame in source.frames_at(range(9))]
    assert [read_barcode(pixels) for pixels in barcodes] == [5] * 6
    assert np.array_equal(sixteen, np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2))
    assert np.array_equal(small, picture[:3, :2])
    assert np.array_equal(one_bit[:, :, 0], np.where(picture[:, :, 0] > 127, 255, 0))


def test_a_damaged_image_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", {f"sec{second}.png": second for second in range(4)})
    (folder / "sec2.png").write_bytes((folder / "sec2.png").read_bytes()[:300])
    with reader().open(folder) as source:
        stream = source.frames_at(candidate_times(source.video, 1.0))
        assert [next(stream).index, next(stream).index] == [0, 1]
        with pytest.raises(TruncatedVideoError, match=r"sec2\.png"):
            next(stream)
        with pytest.raises(VideoError, match="after the end"):
            list(source.frames_at([40.0]))
