"""Which video a request may name, and what becomes of one that it brings along."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ChangedVideoError, ConfigError, RequestError
from pipeline.serving.scratch import Scratch
from pipeline.serving.videos import Videos, VideoSources

BYTES = b"\x00\x00\x00\x18ftypmp42" + b"v" * 5000


def sources(*folders: Path, scratch: Path, video_gb: float = 1e-4, total_gb: float = 3e-4) -> VideoSources:
    return VideoSources(tuple(map(str, folders)), False, 10, video_gb, total_gb, str(scratch))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """``videos/`` with a video and links, beside what must not be read."""
    inside, outside = tmp_path / "videos", tmp_path / "private"
    (inside / "deep").mkdir(parents=True)
    outside.mkdir()
    for file in (inside / "a b.mp4", inside / "deep" / "c.mkv", outside / "secret.mp4", tmp_path / "videos2.mp4"):
        file.write_bytes(BYTES)
    (inside / "notes.txt").write_text("no video")
    (inside / ".hidden.mp4").write_bytes(BYTES)
    (inside / "leads-out.mp4").symlink_to(outside / "secret.mp4")
    (inside / "folder-out").symlink_to(outside)
    (inside / "leads-in.mp4").symlink_to(inside / "deep" / "c.mkv")
    (inside / "dangling.mp4").symlink_to(inside / "gone.mp4")
    (tmp_path / "other-way-in").symlink_to(inside)
    return tmp_path


@pytest.fixture
def videos(place: Path) -> Iterator[Videos]:
    made = Videos(sources(place / "videos", scratch=place / "scratch"))
    yield made
    made.close()


def test_a_video_below_a_folder_is_found_however_it_is_named(place: Path, videos: Videos) -> None:
    file = place / "videos" / "a b.mp4"
    for address in (
        str(file),
        "a b.mp4",
        "deep/../a b.mp4",
        f"file://{file}",
        file.as_uri(),
        f"file://localhost{file.as_uri()[7:]}",
        f"FILE:{file}",
        str(place / "other-way-in" / "a b.mp4"),
    ):
        assert videos.local(address).path == file, address
    linked = videos.local(str(place / "videos" / "leads-in.mp4"))
    assert (linked.path, linked.name) == (place / "videos" / "deep" / "c.mkv", "deep/c.mkv")


def test_a_percent_sign_may_be_written_as_it_is(place: Path, videos: Videos) -> None:
    file = place / "videos" / "100%25.mp4"
    file.write_bytes(BYTES)
    assert videos.local(f"file://{file}").path == file


@pytest.mark.parametrize(
    "name",
    [
        "leads-out.mp4",
        "folder-out/secret.mp4",
        "../private/secret.mp4",
        "../videos2.mp4",
        "deep/../../private/secret.mp4",
    ],
)
def test_what_leads_out_of_the_folders_is_refused(name: str, place: Path, videos: Videos) -> None:
    for address in (name, str(place / "videos" / name), f"file://{place}/videos/{name}"):
        with pytest.raises(RequestError) as caught:
            videos.local(address)
        assert caught.value.http in (403, 404)
    with pytest.raises(RequestError):
        videos.local(f"file://{place}/videos/..%2f..%2fprivate/secret.mp4")


def test_outside_it_is_not_told_what_there_is(place: Path, videos: Videos) -> None:
    told = set()
    for name in ("secret.mp4", "no-such.mp4"):
        with pytest.raises(RequestError) as caught:
            videos.local(str(place / "private" / name))
        told.add((str(caught.value).replace(name, ""), caught.value.http))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("address", "http"),
    [
        ("deep", 400),
        ("gone.mp4", 404),
        ("dangling.mp4", 404),
        ("a\0b.mp4", 400),
        ("", 400),
        ("x" * 5000, 404),
        ("file://other-machine/a.mp4", 400),
        ("ftp://host/a.mp4", 400),
        ("concat:a.mp4|b.mp4", 404),
        ("~/a.mp4", 404),
        ("http://127.0.0.1/a.mp4", 403),
        ("https://example.org/a.mp4", 403),
    ],
)
def test_everything_else_is_refused(address: str, http: int, videos: Videos) -> None:
    with pytest.raises(RequestError) as caught, videos.named(address):
        pass
    assert caught.value.http == http


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXT-X-VERSION:3\n/etc/passwd", "ffconcat version 1.0\nfile /etc/passwd", "<MPD></MPD>", "http://a/b"],
)
def test_playlists_are_refused_from_everywhere(text: str, place: Path, videos: Videos) -> None:
    (place / "videos" / "list.mp4").write_text(text)
    sent = f"data:video/mp4;base64,{base64.b64encode(text.encode()).decode()}"
    for address in ("list.mp4", sent):
        with pytest.raises(RequestError, match="names other files"), videos.named(address):
            pass
    assert os.listdir(videos.scratch.folder) == ["in-use"]


def test_pipes_and_devices_are_refused_without_waiting(place: Path, videos: Videos) -> None:
    os.mkfifo(place / "videos" / "pipe.mp4")
    with pytest.raises(RequestError, match="no regular file"):
        videos.local("pipe.mp4")


def test_the_list_holds_videos_of_the_folders_alone(videos: Videos) -> None:
    assert [video.name for video in videos.listed()] == ["a b.mp4", "deep/c.mkv", "leads-in.mp4"]


def test_the_list_of_a_large_disk_ends_early(place: Path, videos: Videos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.serving.videos._MOST_LOOKED_AT", 1)
    assert len(videos.listed()) <= 1
    (place / "videos" / "more").mkdir()
    for number in range(30):
        (place / "videos" / "more" / f"{number}.mp4").write_bytes(BYTES)
    monkeypatch.setattr("pipeline.serving.videos._MOST_LOOKED_AT", 20)
    assert 1 <= len(videos.listed()) <= 20


def test_a_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"videos\.folders"):
        Videos(sources(tmp_path / "gone", scratch=tmp_path / "scratch"))
    with pytest.raises(ConfigError, match=r"video_gb"):
        sources(scratch=tmp_path, video_gb=0)


def test_a_data_address_is_on_disk_while_it_is_used(videos: Videos) -> None:
    address = f"data:video/mp4;base64,{base64.b64encode(BYTES).decode()}"
    with videos.named(address) as one, videos.named(address) as other:
        assert one.path == other.path, "asked together"
        assert (one.path.read_bytes(), one.path.suffix) == (BYTES, ".mp4")
        assert one.path.stat().st_mode & 0o77 == 0
        assert str(one.path.parent) not in one.name
    assert not one.path.exists()


@pytest.mark.parametrize(
    "address", ["data:video/mp4,abc", "data:text/html;base64,aaaa", "data:video/mp4;base64,a$b=", "data:"]
)
def test_a_data_address_must_be_a_video_in_base64(address: str, videos: Videos) -> None:
    with pytest.raises(RequestError) as caught, videos.named(address):
        pass
    assert caught.value.http == 400
    assert os.listdir(videos.scratch.folder) == ["in-use"]


def test_one_video_and_all_together_are_bounded(videos: Videos) -> None:
    scratch = videos.scratch
    with pytest.raises(RequestError) as caught:
        scratch.receiving(6_000_000_000, ".mp4")
    assert (caught.value.http, "videos.video_gb=" in caught.value.remedy) == (413, True)
    with scratch.receiving(None, "") as growing:
        for _ in range(10):
            growing.write(b"x" * 10_000)
        with pytest.raises(RequestError) as caught:
            growing.write(b"x")
    assert caught.value.http == 413
    kept = []
    for number in range(3):
        with scratch.receiving(None, ".exe") as receiving:
            receiving.write(bytes([65 + number]) * 95_000)
            kept.append(receiving.kept())
    assert kept[0].path.suffix == ""
    with pytest.raises(RequestError) as caught:
        scratch.receiving(20_000, "")
    assert caught.value.http == 507
    kept[0].release()
    kept[0].release()
    assert not kept[0].path.exists()
    scratch.receiving(20_000, "")
    videos.close()
    assert not scratch.folder.exists()


def test_what_breaks_off_leaves_nothing(videos: Videos) -> None:
    with videos.scratch.receiving(None, ".mp4") as receiving:
        receiving.write(BYTES)  # and the client is gone
    assert os.listdir(videos.scratch.folder) == ["in-use"]
    with videos.scratch.receiving(None, ".mp4") as receiving, pytest.raises(RequestError, match="0 bytes"):
        receiving.kept()
    videos.scratch._check_room(300_000)  # all of it is free again


def test_what_a_killed_server_left_is_deleted_by_the_next_one(tmp_path: Path) -> None:
    alive = Scratch(tmp_path, 10, 10)
    left = tmp_path / "gens-serve-killed"
    left.mkdir()
    (left / "in-use").touch()
    (left / "video.mp4").write_bytes(BYTES)
    other = Scratch(tmp_path, 10, 10)
    assert not left.exists()
    assert alive.folder.is_dir()
    other.close()
    alive.close()
    assert os.listdir(tmp_path) == []


def test_a_change_is_noticed(place: Path, videos: Videos) -> None:
    video = videos.local("a b.mp4")
    video.check_is_unchanged()
    with videos.opened(video) as file:
        assert file.read() == BYTES
    replaced = place / "videos" / "new.mp4"
    replaced.write_bytes(BYTES)
    replaced.rename(video.path)
    with pytest.raises(ChangedVideoError):
        video.check_is_unchanged()
    with pytest.raises(ChangedVideoError):
        videos.opened(video)
    video.path.unlink()
    video.path.symlink_to(place / "private" / "secret.mp4")
    with pytest.raises(ChangedVideoError):
        videos.opened(video)
