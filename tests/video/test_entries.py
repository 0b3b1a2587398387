"""Where decoding starts: at pictures that the codec's own headers call whole, whatever the container marks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from barcode_videos import read_barcode, write_video
from made_streams import Piece, marked, pieces, remux

from pipeline.errors import UnsupportedVideoError
from pipeline.video import Reader
from pipeline.video.headers import look_of
from pipeline.video.headers.signs import ENTRY, INTRA, RECOVERY_SHIFT, SHOWN
from pipeline.video.packets import NEVER
from pipeline.video.scan import scan

X265 = "log-level=none:pools=none"
FRAMES = 60


def reader(threads: int = 1) -> Reader:
    return Reader(name="test", backend="pyav", threads=threads, image_fps=1.0)


def from_the_start(path: Path) -> list[np.ndarray]:
    """What FFmpeg shows when it decodes the whole file."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def check_every_frame(path: Path, threads: int = 1) -> None:
    """Each frame asked for alone, backwards, is the one of decoding from the start."""
    expected = from_the_start(path)
    with reader(threads).open(path) as source:
        assert source.video.frame_count == len(expected)
        times = scan(path).timeline.times
        for index in range(len(expected) - 1, -1, -3):
            (frame,) = source.frames_at([float(times[index]) + 0.002])
            assert frame.index == index
            assert np.array_equal(frame.pixels, expected[index]), f"frame {index}"


def entries(path: Path) -> list[int]:
    return np.flatnonzero(scan(path).packets.whole_from != NEVER).tolist()


# name: how it is written, and how many packets decoding may start at
STREAMS: dict[str, tuple[dict[str, Any], int]] = {
    "h264.mp4": ({}, 3),
    "h264_open.mkv": ({"options": {"x264-params": "open-gop=1"}}, 3),
    "h264_refresh.mp4": ({"options": {"x264-params": "intra-refresh=1:keyint=24"}}, 1),
    "h264_refresh_b.mkv": ({"options": {"x264-params": "intra-refresh=1:keyint=24:bframes=2:ref=4"}}, 1),
    "h264_scenes.mp4": ({"options": {"x264-params": "keyint=infinite:min-keyint=100:ref=4"}, "cuts": 10}, 1),
    "hevc.mp4": ({"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=0"}}, 3),
    "hevc_open.mkv": ({"codec": "libx265", "options": {"x265-params": X265}}, 3),
    "hevc_refresh.mp4": ({"codec": "libx265", "options": {"x265-params": f"{X265}:intra-refresh=1:keyint=24"}}, 1),
    "vp8.mkv": ({"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}, "b_frames": 0}, 3),
    "vp9.mp4": ({"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}, "b_frames": 0}, 3),
    "av1.mp4": ({"codec": "libsvtav1", "options": {"preset": "10", "svtav1-params": "keyint=24"}}, 3),
    "mpeg4.mp4": ({"codec": "mpeg4"}, 3),
    "mpeg2.mkv": ({"codec": "mpeg2video"}, 3),
    "mpeg1.mkv": ({"codec": "mpeg1video"}, 3),
}


def made(name: str, folder: Path) -> Path:
    settings = dict(STREAMS[name][0])
    cuts = settings.pop("cuts", 0)
    if cuts:  # pictures that are intra for their content, behind which later ones reach back
        settings["store"] = _Cutting(cuts)
    return write_video(folder / name, frames=FRAMES, **settings)


class _Cutting:
    """Turns the picture upside down every so many frames."""

    def __init__(self, every: int) -> None:
        self._every, self._count = every, -1  # the first call is for the size

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        turned = self._count // self._every % 2 if self._count > 0 else 0
        self._count += 1
        return picture[::-1] if turned else picture


@pytest.mark.parametrize("name", STREAMS)
def test_marks_that_are_false_are_not_believed(name: str, tmp_path: Path) -> None:
    whole = made(name, tmp_path)
    source = remux(whole, tmp_path / f"marked_{name}", marked)
    assert len(entries(source)) == STREAMS[name][1]
    if sum(piece.is_key for piece in pieces(source)) > STREAMS[name][1]:  # FFmpeg takes some marks back by itself
        assert not scan(source).packets.claims_are_true
    check_every_frame(source, threads=2 if "h264" in name else 1)


@pytest.mark.parametrize("name", ["h264_refresh.mp4", "hevc_open.mkv", "vp9.mp4", "av1.mp4"])
def test_marks_that_are_missing_are_not_missed(name: str, tmp_path: Path) -> None:
    source = remux(
        made(name, tmp_path), tmp_path / f"unmarked_{name}", lambda index, piece: replace(piece, is_key=index == 0)
    )
    assert len(entries(source)) == STREAMS[name][1]
    check_every_frame(source)


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4", ".flv", ".avi"])
def test_start_codes_and_lengths_say_the_same(suffix: str, tmp_path: Path) -> None:
    b_frames = 0 if suffix == ".avi" else 2
    source = write_video(tmp_path / f"a{suffix}", frames=FRAMES, b_frames=b_frames)
    assert len(entries(source)) == 3
    check_every_frame(source)


@pytest.mark.parametrize("name", ["h264_refresh.mp4", "h264.mp4"])
def test_decord_is_not_given_a_file_whose_marks_it_would_believe(name: str, tmp_path: Path) -> None:
    """Its own FFmpeg sees a key in each packet where the table of sync samples is missing."""
    pytest.importorskip("decord")
    path = made(name, tmp_path)
    if name == "h264.mp4":
        path.write_bytes(path.read_bytes().replace(b"stss", b"free"))
    with pytest.raises(UnsupportedVideoError, match=rf"decord would start decoding .*{name} at frame \d+"):
        Reader("test", "decord", 1, 1.0).open(path)
    check_every_frame(path)


def test_a_recording_that_begins_with_a_recovery_shows_what_is_whole(tmp_path: Path) -> None:
    """Cut out of a stream with intra refresh: whole pictures come some time after the first recovery point."""
    refresh = made("h264_refresh.mp4", tmp_path)
    looks = look_of("h264", _extradata(refresh))
    assert looks is not None
    signs = [looks(memoryview(piece.data)) for piece in pieces(refresh)]
    recoveries = [index for index, sign in enumerate(signs) if sign >> RECOVERY_SHIFT]
    assert recoveries[:2] == [24, 48]
    count = signs[24] >> RECOVERY_SHIFT
    assert count > 5
    part = remux(refresh, tmp_path / "part.mkv", lambda index, piece: piece if index >= 20 else None)
    expected = from_the_start(refresh)
    with reader().open(part) as source:
        times = scan(part).timeline.times
        shown = [frame.pixels for frame in source.frames_at((times + 0.002).tolist())]
    assert FRAMES - 24 - 2 * count < len(shown) < FRAMES - 24 - count
    assert all(map(np.array_equal, shown, expected[-len(shown) :]))


def test_a_recording_without_an_intra_picture_is_refused(tmp_path: Path) -> None:
    whole = made("h264.mp4", tmp_path)
    part = remux(whole, tmp_path / "part.mkv", lambda index, piece: replace(piece, is_key=True) if index > 48 else None)
    with pytest.raises(UnsupportedVideoError, match=r"part\.mkv has no key frame"):
        scan(part)


def test_leading_pictures_before_the_first_key_frame_are_left_out(tmp_path: Path) -> None:
    """They refer to a picture that is not in the file; FFmpeg does not show them either."""
    whole = made("hevc_open.mkv", tmp_path)
    stamps = [piece.pts for piece in pieces(whole)]
    leading_of = {key: sum(stamp < stamps[key] for stamp in stamps[key:]) for key in entries(whole)}
    key, leading = max(leading_of.items(), key=lambda item: item[1])
    assert leading > 0
    part = remux(whole, tmp_path / "part.mkv", lambda index, piece: piece if index >= key else None)
    assert scan(part).frame_count == len(stamps) - key - leading
    check_every_frame(part)


def _extradata(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return bytes(container.streams.video[0].codec_context.extradata or b"")


def _sei(count_bits: str) -> bytes:
    """A recovery point SEI unit: Exp-Golomb count, exact_match_flag, broken_link_flag, changing_slice_group_idc."""
    bits = count_bits + "000"
    payload = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return b"\0\0\1\x06\x06" + bytes([len(payload)]) + payload + b"\x80"


@pytest.mark.parametrize(
    ("packet", "signs"),
    [
        (b"\0\0\0\1\x09\xf0\0\0\1\x65\x88", SHOWN | ENTRY | INTRA),  # access unit delimiter, then an IDR slice
        (b"\0\0\1\x41\x9a\x00", SHOWN),  # a P slice
        (_sei("11") + b"\0\0\1\x41\x88\x84", SHOWN | ENTRY | INTRA),  # recovery at once, I slice
        (_sei("11") + b"\0\0\1\x41\x9a\x00", SHOWN),  # the same promise of a P slice is not believed
        (_sei("0100") + b"\0\0\1\x41\x9a\x00", SHOWN),  # pictures that match approximately are other pictures
        (_sei("0101") + b"\0\0\1\x41\x9a\x00", SHOWN | 1 << RECOVERY_SHIFT),
        (b"\0\0\1\x67\x64\0\0\1\x68\xeb", 0),  # parameter sets alone
        (b"\0\0\1\x0c\xff\xff\x80", 0),  # filler
        (b"\x12\x34\x56\x78", SHOWN),  # nothing that is understood
    ],
)
def test_h264_headers(packet: bytes, signs: int) -> None:
    look = look_of("h264", b"")
    assert look is not None
    reference = 8
    assert look(memoryview(packet)) & ~reference == signs


@pytest.mark.parametrize("codec", ["h264", "hevc", "vvc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video"])
def test_headers_of_any_bytes_are_read_without_a_fault(codec: str) -> None:
    rng = np.random.default_rng(0)
    for extradata in (b"", bytes(3), b"\1" + bytes(40), rng.bytes(60), b"\x81\0\0\0\x0a", b"\xff" * 40):
        look = look_of(codec, extradata)
        assert look is not None
        for size in range(1, 120):
            data = rng.bytes(size) if size % 2 else bytes(rng.integers(0, 2, size, dtype=np.uint8))
            look(memoryview(data))


def test_pieces_are_what_was_written(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", frames=10)
    assert pieces(remux(source, tmp_path / "b.mp4")) == pieces(source)
    assert isinstance(pieces(source)[0], Piece)


@pytest.mark.parametrize("how", ["broken link", "end of sequence before it"])
def test_leading_pictures_of_a_new_sequence_are_skipped_as_decoders_do(how: str, tmp_path: Path) -> None:
    """Where HEVC streams were cut together, what leads an entry refers to pictures of the other stream."""
    whole = made("hevc_open.mkv", tmp_path)
    stamps = [piece.pts for piece in pieces(whole)]
    leading_of = {key: sum(stamp < stamps[key] for stamp in stamps[key:]) for key in entries(whole)[1:]}
    key, leading = max(leading_of.items(), key=lambda item: item[1])
    assert leading > 0

    def change(index: int, piece: Piece) -> Piece:
        if how == "broken link" and index == key:
            place = 0
            while piece.data[place + 4] >> 1 != 21:  # past the parameter sets to the CRA picture
                place += 4 + int.from_bytes(piece.data[place : place + 4], "big")
            data = bytearray(piece.data)
            data[place + 4] = 16 << 1 | data[place + 4] & 1  # BLA_W_LP
            return replace(piece, data=bytes(data))
        if how != "broken link" and index == key - 1:
            return replace(piece, data=piece.data + b"\0\0\0\2\x48\x01")
        return piece

    joined = remux(whole, tmp_path / "joined.mkv", change)
    led = {stamps[key] - stamp for stamp in stamps[key:] if stamp < stamps[key]}
    expected = [index for index, stamp in enumerate(sorted(stamps)) if stamps[key] - stamp not in led]
    assert len(expected) == FRAMES - leading
    with reader().open(joined) as source:
        times = scan(joined).timeline.times + 0.002
        # A decoder that goes on over an end of sequence drops pictures that it has not shown yet.
        assert [read_barcode(frame.pixels) for frame in source.frames_at(times.tolist())] == expected
        for index in range(0, len(expected), 5):
            (frame,) = source.frames_at([float(times[index])])
            assert read_barcode(frame.pixels) == expected[index]
