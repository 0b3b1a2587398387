from __future__ import annotations

from pathlib import Path

from pipeline.reports.pictures import place_pictures, write_pictures
from pipeline.reports.thumbnails import Thumbnail, ThumbnailSet

THUMBNAILS = ThumbnailSet(
    {("a", 1.0): Thumbnail(b"one" * 100, 16, 9), ("a", 2.0): Thumbnail(b"two" * 100, 16, 9)}, {"b": "gone: fetch it"}
)
USES = [("a", 1.0), ("a", 2.0), ("a", 1.0), ("b", 5.0)]


def test_few_pictures_are_inside() -> None:
    pictures = place_pictures(THUMBNAILS, USES, "report_files")
    assert pictures.files == {}
    assert {picture.address[:23] for picture in pictures.shown.values()} == {"data:image/jpeg;base64,"}
    assert pictures.problems == {"b": "gone: fetch it"}


def test_a_picture_that_is_shown_twice_is_paid_twice() -> None:
    size = len(THUMBNAILS.pictures["a", 1.0].data_uri)
    assert place_pictures(THUMBNAILS, USES, "files", inline_bytes=3 * size).files == {}
    pictures = place_pictures(THUMBNAILS, USES, "files", inline_bytes=3 * size - 1)
    assert sorted(pictures.files.values()) == [b"one" * 100, b"two" * 100]
    assert {picture.address for picture in pictures.shown.values()} == {f"files/{name}" for name in pictures.files}


def test_folder_holds_the_pictures_of_this_page_and_nothing_of_ours_from_before(tmp_path: Path) -> None:
    folder = tmp_path / "report_files"
    write_pictures(place_pictures(THUMBNAILS, USES, "report_files", 0), folder, "target=")
    first = {path.name for path in folder.iterdir()}
    assert len(first) == 2
    write_pictures(place_pictures(THUMBNAILS, USES[1:2], "report_files", 0), folder, "target=")
    assert {path.name for path in folder.iterdir()} < first
    (folder / "notes.txt").write_text("mine")
    write_pictures(place_pictures(THUMBNAILS, USES, "report_files"), folder, "target=")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    write_pictures(place_pictures(THUMBNAILS, USES, "report_files"), folder, "target=")
    assert not folder.exists()
