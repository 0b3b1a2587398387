"""Damage is an error, not a picture, wherever a codec lets it be noticed; and what is whole is never called damaged."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from barcode_videos import FPS, FRAMES, read_barcode, write_video
from damaged_videos import CLIPS, readings, write_clip
from damaged_videos import FPS as CLIP_FPS

from pipeline.errors import TruncatedVideoError, VideoError
from pipeline.video import OpenVideo, Reader
from pipeline.video.backends.nal_damage import nal_damage

FAST = {"deadline": "realtime", "cpu-used": "8"}


def reader(backend: str = "auto", threads: int = 2) -> Reader:
    return Reader(name="test", backend=backend, threads=threads, image_fps=1.0)  # type: ignore[arg-type]


def seen_before_failure(source: OpenVideo, step: int = 1) -> tuple[list[int], VideoError | None]:
    seen: list[int] = []
    try:
        for frame in source.frames_at([index / FPS + 0.004 for index in range(0, FRAMES, step)]):
            seen.append(read_barcode(frame.pixels))
    except VideoError as error:
        return seen, error
    return seen, None


# Files of each codec, and how many of them may pass though damage is seen: nothing in those tells it (README).
@pytest.mark.parametrize(
    ("codec", "files", "may_pass"),
    [("h264", 24, 0), ("hevc", 18, 6), ("vp9", 18, 0), ("av1", 12, 0), ("mpeg4", 18, 0), ("mpeg2", 18, 0)],
)
def test_damaged_files_are_refused(codec: str, files: int, may_pass: int, tmp_path: Path) -> None:
    names = [name for name in CLIPS if name.startswith(f"{codec}.")]
    found = list(readings(tmp_path, reader(), files, seed=3, names=names, step=8))
    passed = [reading for reading in found if reading.passes]
    assert len(passed) <= may_pass, passed
    assert sum(reading.refused for reading in found) >= files // 2


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_hole_in_a_picture_is_damage(codec: str, suffix: str, threads: int, tmp_path: Path) -> None:
    """Sixteen zeros inside a slice: the decoders of both codecs go through them and report nothing."""
    options = {"x265-params": "log-level=none:pools=none"} if codec == "libx265" else {}
    path = write_video(tmp_path / f"whole{suffix}", codec=codec, options=options)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    hole = max(packets[60:70], key=len)
    middle = hole[len(hole) // 2 : len(hole) // 2 + 48]
    place = data.find(middle)
    assert place > 0
    data[place : place + 16] = bytes(16)
    (tmp_path / f"hole{suffix}").write_bytes(data)
    with reader(threads=threads).open(tmp_path / f"hole{suffix}") as source:
        seen, failure = seen_before_failure(source)
        assert seen == list(range(len(seen)))
        assert type(failure) is TruncatedVideoError
        assert "is damaged" in failure.problem
        assert 40 < len(seen) < 72


@pytest.mark.parametrize(("codec", "extradata"), [("h264", b""), ("hevc", b""), ("h264", b"\1\x64\0\x1f\xff\xe1\0")])
def test_rules_of_nal_units(codec: str, extradata: bytes) -> None:
    check = nal_damage(codec, extradata)
    assert check is not None

    def damaged(*units: bytes) -> bool:
        if extradata:
            return check(b"".join(len(unit).to_bytes(4, "big") + unit for unit in units))
        return check(b"".join(b"\0\0\1" + unit for unit in units))

    slice_ = b"\x65\x88" if codec == "h264" else b"\x26\x01\xaf"
    settings = b"\x67" if codec == "h264" else b"\x42\x01"
    for whole in (b"\x12\0\0\3\0\0\3\1\x80", b"\x12\0\0\3", b"\x12\0\x80", b"\x12\x80" + bytes(9)):
        assert not damaged(slice_ + whole)
        assert not damaged(settings + whole, slice_ + whole, slice_ + whole)
    for broken in (b"\x12\0\0\0\0\x80", b"\x12\0\0\2\x80", b"\x12\0\0\3\4\x80"):
        assert damaged(slice_ + broken)
        assert damaged(settings + b"\x80", slice_ + broken, slice_ + b"\x80")
        assert not damaged(settings + broken), "no picture is in this unit"
    assert damaged(bytes([slice_[0] | 128]) + slice_[1:] + b"\x80")
    assert damaged(slice_ + b"\x80" + bytes(100)) is bool(extradata), "start codes may have any number of zeros before"
    assert not damaged()
    if extradata:
        assert check(b"\0\0\1\0" + slice_)


def test_other_codecs_have_no_such_rules() -> None:
    assert nal_damage("vp9", b"") is None


def test_every_picture_of_a_vp9_packet_is_checked(tmp_path: Path) -> None:
    """A hidden picture and a shown one share a packet; libvpx checks the last picture of what it is given."""
    path = write_clip(tmp_path / "hidden.mp4", "vp9.mp4")
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    several = [index for index, packet in enumerate(packets) if packet[-1] & 0xE0 == 0xC0]
    assert several, "no packet holds several pictures"
    data = path.read_bytes()
    refused = []
    for index in several:
        for part in (1, 2, 3):
            # In the first picture, by far the largest.
            place = data.find(packets[index]) + len(packets[index]) * part // 5
            (tmp_path / "broken.mp4").write_bytes(data[:place] + b"\x5a\xa5" * 4 + data[place + 8 :])
            with reader().open(tmp_path / "broken.mp4") as source:
                try:
                    list(source.frames_at([(index + 0.1) / CLIP_FPS]))
                except TruncatedVideoError:
                    refused.append((index, part))
    assert len(refused) >= 3 * len(several) - 1, "one may end where the picture did by chance"


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuva420p"])
def test_whole_vp9_is_read_as_ffmpeg_reads_it(pix_fmt: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.webm"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libvpx-vp9", rate=FPS, options=FAST | {"auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 94, 50, pix_fmt
        for index in range(8):
            noise = np.random.default_rng(index).integers(0, 255, (50, 94, 3), dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        output.mux(stream.encode(None))
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with reader().open(path) as source:
        given = [frame.pixels for frame in source.frames_at([(index + 0.1) / FPS for index in range(8)])]
    assert all(map(np.array_equal, given, expected))


def test_hashes_of_pictures_are_compared(tmp_path: Path) -> None:
    """Some encoders put one behind every picture; then no flipped bit goes unnoticed."""
    options = {"x265-params": "log-level=none:pools=none:hash=1:keyint=12"}
    path = write_video(tmp_path / "whole.mp4", codec="libx265", options=options, frames=24)
    data = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for number in (3, 9, 17):
        place = data.find(packets[number]) + len(packets[number]) // 2
        changed = bytearray(data)
        changed[place] ^= 0x10
        (tmp_path / "changed.mp4").write_bytes(changed)
        with reader().open(tmp_path / "changed.mp4") as source, pytest.raises(TruncatedVideoError):
            list(source.frames_at([index / FPS + 0.004 for index in range(24)]))


@pytest.mark.parametrize("name", ["h264.avi", "mpeg4.avi"])
def test_damage_is_noticed_where_pictures_are_counted(name: str, tmp_path: Path) -> None:
    """AVI with pictures out of order is decoded from the start: what is before the damage is given."""
    codec = {"h264.avi": "libx264", "mpeg4.avi": "mpeg4"}[name]
    path = write_video(tmp_path / name, codec=codec)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    with reader().open(path) as source:
        seen, failure = seen_before_failure(source)
        assert seen == list(range(len(seen)))
        assert type(failure) is TruncatedVideoError
        assert 20 < len(seen) < FRAMES - 20
