"""Damage to a file's structure and checksums, which FFmpeg reads over."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from barcode_videos import FPS, FRAMES, read_barcode, write_video
from made_streams import remux

from pipeline.errors import TruncatedVideoError
from pipeline.video import Reader
from pipeline.video.containers.file_bytes import FileBytes
from pipeline.video.containers.matroska import damaged_in_matroska
from pipeline.video.containers.riff import damaged_in_avi
from pipeline.video.scan import scan

OPTIONS = {"libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}, "mjpeg": {"strict": "unofficial"}}
VP9 = OPTIONS["libvpx-vp9"]


def read(path: Path) -> Iterator[tuple[int, int | None]]:
    """Each frame's number, and the number that its picture shows; none where it is refused."""
    with Reader(name="test", backend="auto", threads=1, image_fps=1.0).open(path) as source:
        for index in range(FRAMES):
            try:
                (frame,) = source.frames_at([index / FPS + 0.004])
                yield index, read_barcode(frame.pixels)
            except TruncatedVideoError:
                yield index, None


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("name", ["mjpeg.mkv", "h264.mkv", "vp9.mkv"])
def test_a_wrong_checksum_of_a_cluster_refuses_its_pictures(name: str, tmp_path: Path) -> None:
    codec = {"mjpeg": "mjpeg", "h264": "libx264", "vp9": "libvpx-vp9"}[name.partition(".")[0]]
    path = write_video(
        tmp_path / name,
        codec=codec,
        options=OPTIONS.get(codec),
        b_frames=0,
        container_options={"cluster_time_limit": "1000"},
    )
    data = path.read_bytes()
    assert all(number == shown for number, shown in read(path))
    packet = packets(path)[60]
    place = data.find(packet) + len(packet) - 3  # the last pixels: no decoder could tell
    changed = bytearray(data)
    changed[place] ^= 4
    (tmp_path / f"changed-{name}").write_bytes(changed)
    found = dict(read(tmp_path / f"changed-{name}"))
    assert found[60] is None
    refused = [number for number, shown in found.items() if shown is None]
    assert 0 < len(refused) < 60, "only what is in the cluster or refers to it"
    assert all(shown in (number, None) for number, shown in found.items())


def test_pictures_behind_a_break_of_the_structure_are_not_guessed(tmp_path: Path) -> None:
    """WebM has no checksums. FFmpeg leaves out what it cannot read, and VP9 decodes on from the wrong pictures."""
    path = write_video(
        tmp_path / "whole.webm", codec="libvpx-vp9", options=VP9, container_options={"cluster_time_limit": "1000"}
    )
    data = path.read_bytes()
    stored = packets(path)
    for first in (20, 40, 60):
        start = data.find(stored[first]) - 6
        end = data.find(stored[first + 3])
        (tmp_path / "holed.webm").write_bytes(data[:start] + bytes(end - start) + data[end:])
        assert scan(tmp_path / "holed.webm").frame_count < FRAMES
        found = dict(read(tmp_path / "holed.webm"))
        assert all(shown in (number, None) for number, shown in found.items())
        assert found[first - 2] == first - 2
        assert found[first] is found[first + 1] is None
        assert any(shown is not None for number, shown in found.items() if number > first + 30)


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_pictures_behind_a_lost_chunk_of_an_avi_are_not_shown_too_early(codec: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "whole.avi", codec=codec, options=OPTIONS.get(codec), b_frames=0)
    data = path.read_bytes()
    stored = packets(path)
    start = data.find(stored[50]) - 8
    end = data.find(stored[52]) - 8
    (tmp_path / "holed.avi").write_bytes(data[:start] + bytes(end - start) + data[end:])
    found = dict(read(tmp_path / "holed.avi"))
    assert [found[number] for number in range(49)] == list(range(49))
    assert {found[number] for number in range(50, FRAMES)} == {None}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("checksums.mkv", {}),
        ("none.mkv", {"write_crc32": "0"}),
        ("live.mkv", {"live": "1"}),
        ("live.webm", {"live": "1", "cluster_time_limit": "500"}),
        ("dash.webm", {"dash": "1"}),
        ("small.mkv", {"cluster_size_limit": "5000"}),
    ],
)
def test_whole_files_are_whole(name: str, options: dict[str, str], tmp_path: Path) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = write_video(tmp_path / "plain.mkv", codec=codec, options=OPTIONS.get(codec), frames=40)
    written = remux(path, tmp_path / name, options=options, sound=[] if codec == "libvpx-vp9" else [(0.0, 1.5)])
    for whole in (written.read_bytes(), written.read_bytes() * 2, written.read_bytes() + b"\xec\x84\0\0\0\0"):
        written.write_bytes(whole)
        places = scan(written).packets.places
        assert (places > 0).all()
        assert not damaged_in_matroska(written, places).any()
    cut = tmp_path / f"cut-{name}"
    for length in range(100, len(whole), len(whole) // 37):
        cut.write_bytes(whole[:length])
        assert not damaged_in_matroska(cut, places).any(), length


def test_a_live_recording_does_not_know_sizes(tmp_path: Path) -> None:
    """Of its segment and of its clusters, as browsers record."""
    path = write_video(tmp_path / "plain.mkv", frames=40, container_options={"cluster_size_limit": "5000"})
    data = path.read_bytes()
    mark = b"\x1f\x43\xb6\x75"
    parts = data.split(mark)
    widths = [9 - part[0].bit_length() for part in parts[1:]]
    unknown = [((1 << 7 * width + 1) - 1).to_bytes(width, "big") for width in widths]
    # Without the checksum (6 bytes) behind each size, which an unknown size could not have.
    live = parts[0] + b"".join(
        mark + size + part[width:][6 if part[width:][:2] == b"\xbf\x84" else 0 :]
        for size, width, part in zip(unknown, widths, parts[1:], strict=True)
    )
    (tmp_path / "live.mkv").write_bytes(live)
    places = np.arange(0, len(live), 50)
    assert len(parts) > 3
    assert not damaged_in_matroska(tmp_path / "live.mkv", places).any()


def test_sloppy_and_cut_avi_files_are_whole(tmp_path: Path) -> None:
    data = write_video(
        tmp_path / "whole.avi", codec="mjpeg", options=OPTIONS["mjpeg"], b_frames=0, frames=40
    ).read_bytes()
    stored = packets(tmp_path / "whole.avi")
    odd = next(packet for packet in stored if len(packet) & 1)
    end = data.find(odd) + len(odd)
    unpadded = data[:end] + data[end + 1 :]  # some writers leave out the byte behind a chunk of odd length
    for content in (data, unpadded, data[: len(data) * 2 // 3], data + data, data[:4] + bytes(4) + data[8:]):
        (tmp_path / "some.avi").write_bytes(content)
        assert not damaged_in_avi(tmp_path / "some.avi", np.arange(0, len(content), 100)).any()


def test_bytes_are_found_across_pieces(tmp_path: Path) -> None:
    piece = 1 << 20
    content = bytearray(3 * piece + 100)
    for place in (piece - 2, 2 * piece + 7):
        content[place : place + 4] = b"mark"
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as opened:
        file = FileBytes(opened)
        assert file.find(b"mark", 0) == piece - 2
        assert file.find(b"mark", piece) == 2 * piece + 7
        assert file.find(b"mark", 2 * piece + 8) == file.size == len(content)
        assert file.at(2 * piece + 7, 4) == b"mark"
        assert file.at(len(content) - 2, 10) == bytes(2)
        assert file.checksum(0, len(content)) == zlib.crc32(content)
