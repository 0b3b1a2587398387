from __future__ import annotations

from pathlib import Path

from pipeline.reports.pictures import hang, store
from pipeline.reports.thumbnails import Album, Thumbnail

ALBUM = Album(
    {("a", 1.0): Thumbnail(b"one" * 100, 16, 9), ("a", 2.0): Thumbnail(b"two" * 100, 16, 9)}, {"b": "gone: fetch it"}
)
USES = [("a", 1.0), ("a", 2.0), ("a", 1.0), ("b", 5.0)]


def test_few_pictures_are_inside() -> None:
    gallery = hang(ALBUM, USES, "report_files")
    assert gallery.files == {}
    assert {picture.address[:23] for picture in gallery.shown.values()} == {"data:image/jpeg;base64,"}
    assert gallery.problems == {"b": "gone: fetch it"}


def test_a_picture_that_is_shown_twice_is_paid_twice() -> None:
    size = len(ALBUM.pictures["a", 1.0].data_uri)
    assert hang(ALBUM, USES, "files", inline_bytes=3 * size).files == {}
    gallery = hang(ALBUM, USES, "files", inline_bytes=3 * size - 1)
    assert sorted(gallery.files.values()) == [b"one" * 100, b"two" * 100]
    assert {picture.address for picture in gallery.shown.values()} == {f"files/{name}" for name in gallery.files}


def test_folder_holds_the_pictures_of_this_page_and_nothing_of_ours_from_before(tmp_path: Path) -> None:
    folder = tmp_path / "report_files"
    store(hang(ALBUM, USES, "report_files", 0), folder, "target=")
    first = {path.name for path in folder.iterdir()}
    assert len(first) == 2
    store(hang(ALBUM, USES[1:2], "report_files", 0), folder, "target=")
    assert {path.name for path in folder.iterdir()} < first
    (folder / "notes.txt").write_text("mine")
    store(hang(ALBUM, USES, "report_files"), folder, "target=")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    store(hang(ALBUM, USES, "report_files"), folder, "target=")
    assert not folder.exists()
