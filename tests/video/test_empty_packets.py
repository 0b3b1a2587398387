"""Packets that give no picture of their own: the picture before stays on screen, and nothing is called cut."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from barcode_videos import FPS, HEIGHT, WIDTH, barcode, read_barcode, write_video
from made_streams import Piece, pieces, remux

from pipeline.errors import TruncatedVideoError
from pipeline.video import Reader, probe
from pipeline.video.scan import scan

FRAMES = 60
NOT_CODED = b"\0\0\1\xb6\x50\x4f"
"""An MPEG-4 plane with vop_coded 0, where five bits tell the time: the picture before once more."""


def write_motion_jpeg(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        # Pictures and sound lie between each other; AVI would get empty chunks of its own to keep them together.
        sound = output.add_stream("aac", rate=16000) if path.suffix != ".avi" else None
        samples = 0
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(barcode(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            output.mux(stream.encode(frame))
            while sound is not None and samples / 16000 < index / FPS:
                heard = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = 16000, samples, Fraction(1, 16000)
                output.mux(sound.encode(heard))
                samples += 1024
        output.mux(stream.encode(None))
    return path


def with_empty_chunks(source: Path, target: Path, empty: set[int]) -> Path:
    """An AVI file in which the pictures of some places are chunks of 0 bytes, as capture programs write them."""
    data = source.read_bytes()
    start = data.index(b"movi") - 8
    place, end = start + 12, start + 8 + struct.unpack_from("<I", data, start + 4)[0]
    chunks, index, pictures = b"", b"", 0
    while place < end:
        name, size = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
        body = data[place + 8 : place + 8 + size]
        if name == b"00dc":
            body = b"" if pictures in empty else body
            pictures += 1
        index += name + struct.pack("<III", 16, 4 + len(chunks), len(body))
        chunks += name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
        place += 8 + size + size % 2
    movi = b"LIST" + struct.pack("<I", 4 + len(chunks)) + b"movi" + chunks
    whole = data[:start] + movi + b"idx1" + struct.pack("<I", len(index)) + index
    target.write_bytes(whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:])
    return target


def with_empty_samples(path: Path) -> set[int]:
    """Give size 0 to the last picture of every third chunk of an MP4 or MOV file; returns their places."""
    data = bytearray(path.read_bytes())
    sizes, table, places = data.index(b"stsz"), data.index(b"stsc"), data.index(b"stco")
    runs = [
        struct.unpack_from(">II", data, table + 12 + 12 * k)
        for k in range(struct.unpack_from(">I", data, table + 8)[0])
    ]
    chunks = struct.unpack_from(">I", data, places + 8)[0]
    counts = [[count for first, count in runs if first <= chunk + 1][-1] for chunk in range(chunks)]
    empty = {int(last) - 1 for last in np.cumsum(counts)[3:-1:3]} | {FRAMES - 1}
    for place in empty:
        data[sizes + 16 + 4 * place : sizes + 20 + 4 * place] = bytes(4)
    path.write_bytes(data)
    return empty


def numbers_at(path: Path, seconds: list[float]) -> list[int]:
    with Reader("test", "auto", 1, 1.0).open(path) as source:
        return [read_barcode(frame.pixels) for frame in source.frames_at(seconds)]


def check(path: Path, empty: set[int]) -> None:
    """Each picture from its own time on, until the next one that is there."""
    pictures = [index for index in range(FRAMES) if index not in empty]
    video = probe(path)
    assert video.duration == pytest.approx(FRAMES / FPS, abs=0.01)
    assert video.frame_count == len(pictures)
    on_screen = [max((k for k in pictures if k <= index), default=pictures[0]) for index in range(FRAMES)]
    assert numbers_at(path, [index / FPS + 0.004 for index in range(FRAMES)]) == on_screen


@pytest.mark.parametrize(
    "empty", [{*range(20, 30)}, {*range(50, 60)}, {*range(6)}, {*range(3, 60, 7)}, {0, 59}], ids=str
)
def test_an_empty_chunk_repeats_the_picture_before(empty: set[int], tmp_path: Path) -> None:
    source = write_motion_jpeg(tmp_path / "source.avi")
    check(with_empty_chunks(source, tmp_path / "dropped.avi", empty), empty)


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_an_empty_sample_repeats_the_picture_before(suffix: str, tmp_path: Path) -> None:
    path = write_motion_jpeg(tmp_path / f"dropped{suffix}")
    check(path, with_empty_samples(path))


def test_a_cut_file_with_empty_chunks_is_still_called_cut(tmp_path: Path) -> None:
    source = write_motion_jpeg(tmp_path / "source.avi")
    data = with_empty_chunks(source, tmp_path / "dropped.avi", {*range(20, 30)}).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) * 6 // 10])
    assert probe(cut).duration == pytest.approx(FRAMES / FPS, abs=0.01)
    with pytest.raises(TruncatedVideoError, match=r"cut\.avi: the file is cut at 1\.\d\d s"):
        numbers_at(cut, [0.0, 1.9])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_plane_that_is_not_coded_repeats_the_picture_before(suffix: str, tmp_path: Path) -> None:
    source = write_video(tmp_path / "source.mp4", codec="mpeg4", b_frames=0, frames=FRAMES)
    step = pieces(source)[1].pts
    held = set(range(5, FRAMES, 6))
    target = tmp_path / f"held{suffix}"
    written: list[Piece] = []
    for index, piece in enumerate(pieces(source)):
        written.append(piece)
        if index in held:
            written.append(replace(piece, data=NOT_CODED, is_key=False))
    written = [replace(piece, pts=step * place, dts=step * place) for place, piece in enumerate(written)]
    remux(source, target, packets=written)
    assert scan(target).frame_count == FRAMES
    assert probe(target).duration == pytest.approx((FRAMES + len(held)) / FPS, abs=0.04)
    expected = [index for index in range(FRAMES) for _ in range(1 + (index in held))]
    seconds = [place / FPS + 0.004 for place in range(len(expected) - 1)]
    assert numbers_at(target, seconds) == expected[:-1]


def test_packed_pictures_are_counted_one_a_packet(tmp_path: Path) -> None:
    """DivX put a picture and the one shown before it into one packet, and one that is not coded into the next."""
    source = write_video(tmp_path / "source.mp4", codec="mpeg4", b_frames=1, frames=FRAMES)
    plane, written, waiting = b"\0\0\1\xb6", [], list(pieces(source))
    while waiting:
        piece = waiting.pop(0)
        at = piece.data.index(plane)
        mark = b"\0\0\1\xb2DivX503b1393p" if not written else b""
        data = piece.data[:at] + mark + piece.data[at:]
        if waiting and waiting[0].data[waiting[0].data.index(plane) + 4] >> 6 == 2:
            written.append(replace(piece, data=data + waiting.pop(0).data))
            written.append(replace(piece, data=NOT_CODED, is_key=False))
        else:
            written.append(replace(piece, data=data))
    step = pieces(source)[0].duration
    written = [replace(piece, pts=step * place, dts=step * place) for place, piece in enumerate(written)]
    for suffix in (".avi", ".mkv"):
        target = remux(source, tmp_path / f"packed{suffix}", packets=written)
        assert scan(target).frame_count == FRAMES
        assert numbers_at(target, [index / FPS + 0.004 for index in range(FRAMES - 1)]) == list(range(FRAMES - 1))


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9", "libsvtav1"])
def test_frames_that_only_serve_others_are_no_pictures(codec: str, tmp_path: Path) -> None:
    """Alternate reference frames."""
    options = {"libsvtav1": {"preset": "8"}}.get(
        codec, {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "5"}
    )
    path = write_video(tmp_path / "a.mkv", codec=codec, options=options, b_frames=0, frames=FRAMES)
    check(path, set())
