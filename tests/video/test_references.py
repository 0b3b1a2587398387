"""Only the file that is named is read: whatever names other files is refused, and no other protocol is spoken."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from barcode_videos import write_video
from PIL import Image

from pipeline.errors import UnsupportedVideoError, VideoError
from pipeline.video import Reader, probe

PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:4,\n{video}\n#EXT-X-ENDLIST\n",
    "renamed.mp4": "\ufeff#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:4,\n{video}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile '{video}'\n",
    "list.txt": "ffconcat version 1.0\nfile '{video}'\n",
    "list.mpd": '<?xml version="1.0"?>\n<MPD type="static"><Period><BaseURL>{video}</BaseURL></Period></MPD>',
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "list.pls": "[playlist]\nFile1={video}\n",
    "list.xspf": '<?xml version="1.0"?><playlist version="1"><trackList/></playlist>',
    "list.strm": "http://127.0.0.1:9/{video}\n",
}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return write_video(folder / "secret.ts", frames=8)


@pytest.mark.parametrize("backend", ["auto", "pyav", "decord", "torchcodec"])
@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlists_are_refused_by_name(name: str, backend: str, elsewhere: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(video=elsewhere))
    reader = Reader("test", backend, 1, 1.0)  # type: ignore[arg-type]
    for look in (reader.open, reader.probe):
        with pytest.raises(UnsupportedVideoError, match=rf"{name} is (an? .*): it names other files"):
            look(path)


def test_a_link_is_judged_by_what_it_leads_to(elsewhere: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(PLAYLISTS["list.m3u8"].format(video=elsewhere))
    link = tmp_path / "film.mp4"
    link.symlink_to(playlist)
    with pytest.raises(UnsupportedVideoError, match=r"film\.mp4 is an HLS playlist"):
        probe(link)
    film = tmp_path / "list.m3u"  # and a video may be called as it likes
    film.symlink_to(elsewhere)
    assert probe(film).frame_count == 8


@pytest.mark.parametrize("name", ["frame_%03d.png", "frame_%d.png"])
def test_a_pattern_of_images_is_refused(name: str, tmp_path: Path) -> None:
    for index in range(4):
        Image.fromarray(np.full((32, 32, 3), index, np.uint8)).save(tmp_path / f"frame_{index:03d}.png")
    (tmp_path / name).write_bytes((tmp_path / "frame_000.png").read_bytes())
    with pytest.raises(UnsupportedVideoError, match="pattern of image files"):
        probe(tmp_path / name)


@pytest.mark.parametrize("url", ["concat:{video}|{video}", "subfile,,start,0,end,0,,:{video}", "file:{video}"])
def test_a_protocol_is_a_name_of_a_file_that_is_not_there(url: str, elsewhere: Path) -> None:
    with pytest.raises(VideoError, match="there is no video"):
        probe(url.format(video=elsewhere))


def test_a_movie_that_points_to_another_file_is_refused(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mov", frames=8).read_bytes()
    own = b"\0\0\0\x0curl \0\0\0\1"  # a data reference to the file itself
    assert whole.count(own) == 1
    place = b"file:///elsewhere.mov\0"
    other = (12 + len(place)).to_bytes(4, "big") + b"url \0\0\0\0" + place
    data = bytearray(whole.replace(own, other))
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):  # the media's dref is the first after dinf
        at = data.index(box) - 4
        size = int.from_bytes(data[at : at + 4], "big") + len(other) - len(own)
        data[at : at + 4] = size.to_bytes(4, "big")
    (tmp_path / "reference.mov").write_bytes(data)
    with pytest.raises(UnsupportedVideoError, match=r"reference\.mov is a reference movie"):
        probe(tmp_path / "reference.mov")
    # Flagged as elsewhere without a place: careless, and harmless.
    (tmp_path / "careless.mov").write_bytes(whole.replace(own, own[:-1] + b"\0"))
    assert probe(tmp_path / "careless.mov").frame_count == 8


def test_chapters_of_another_matroska_file_are_refused(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", frames=8).read_bytes()

    def element(kind: str, content: bytes) -> bytes:
        return bytes.fromhex(kind) + (len(content) | 0x4000).to_bytes(2, "big") + content

    for name, extra, refused in (
        ("own.mkv", element("91", b"\0"), False),  # ChapterTimeStart
        ("linked.mkv", element("6e67", bytes(16)), True),  # ChapterSegmentUUID
    ):
        chapters = element("1043a770", element("45b9", element("b6", extra)))
        data = bytearray(whole + chapters)
        at = data.index(bytes.fromhex("18538067")) + 4
        assert data[at] == 1, "a size of eight bytes"
        size = int.from_bytes(data[at + 1 : at + 8], "big") + len(chapters)
        data[at + 1 : at + 8] = size.to_bytes(7, "big")
        path = tmp_path / name
        path.write_bytes(data)
        if refused:
            with pytest.raises(UnsupportedVideoError, match=r"linked\.mkv is linked by its chapters"):
                probe(path)
        else:
            assert probe(path).frame_count == 8


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_animations_are_videos(suffix: str, tmp_path: Path) -> None:
    assert probe(_animation(tmp_path / f"a{suffix}")).frame_count == 5


def test_an_animated_webp_is_refused_with_a_command_that_converts_it(tmp_path: Path) -> None:
    path = _animation(tmp_path / "it's.webp")
    with pytest.raises(UnsupportedVideoError, match="animated WebP") as raised:
        probe(path)
    command = shlex.split(raised.value.remedy.partition(": ")[2])
    assert command[0] == "python"
    subprocess.run([sys.executable, *command[1:]], check=True, env={**os.environ})
    video = probe(tmp_path / "it's.converted.png")
    assert (video.frame_count, video.duration) == (5, pytest.approx(0.5, abs=0.02))


def _animation(path: Path) -> Path:
    first, *others = (Image.fromarray(np.full((32, 32, 3), 40 * index, np.uint8)) for index in range(5))
    first.save(path, save_all=True, append_images=others, duration=100)
    return path
