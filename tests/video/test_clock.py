"""Seconds are those of a player: recordings behind each other, no time lost or made up, and sound may begin first."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from barcode_videos import FPS, barcode, read_barcode, write_video
from made_streams import pieces, remux, shifted

from pipeline.domain import Question, Subtitles
from pipeline.errors import UnsupportedVideoError
from pipeline.subtitles import SubtitleChoice, SubtitleFinder
from pipeline.video import Reader, candidate_times, probe
from pipeline.video.scan import scan

FRAMES = 48
TICK = 1 / 15360
WRAP = 2**33 / 90000
X265 = "log-level=none:pools=none"


def recording(path: Path, first: int, **settings: Any) -> Path:
    """A video of which the first picture has the number ``first``."""
    numbers = iter([first, *range(first, first + 1000)])  # the first call is for the size
    return write_video(path, store=lambda picture: barcode(next(numbers)), frames=FRAMES, **settings)


def joined(target: Path, *parts: Path) -> Path:
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def reader() -> Reader:
    return Reader(name="test", backend="auto", threads=1, image_fps=1.0)


def numbers(path: Path) -> list[int]:
    """The number of every frame in order of time, read in one stream and checked against reading some alone."""
    with reader().open(path) as source:
        times = (scan(path).timeline.times + 0.002).tolist()
        found = [read_barcode(frame.pixels) for frame in source.frames_at(times)]
        for index in range(0, len(times), 11):
            (alone,) = source.frames_at(times[index : index + 1])
            assert read_barcode(alone.pixels) == found[index]
    return found


def steps(path: Path) -> list[float]:
    return np.diff(scan(path).timeline.times).tolist()


@pytest.mark.parametrize(
    ("suffix", "settings"),
    [
        (".ts", {}),
        (".ts", {"b_frames": 0}),
        (".ts", {"codec": "libx265", "options": {"x265-params": X265}}),  # open groups: what leads reaches across
        (".ts", {"codec": "mpeg2video"}),
        (".mpg", {"codec": "mpeg2video"}),
        (".mkv", {}),
    ],
)
def test_joined_recordings_come_one_after_another(suffix: str, settings: dict[str, Any], tmp_path: Path) -> None:
    count = 2 if suffix == ".mkv" else 3  # FFmpeg reads no third one there
    parts = [recording(tmp_path / f"{part}{suffix}", part * FRAMES, **settings) for part in range(count)]
    path = joined(tmp_path / f"joined{suffix}", *parts)
    assert numbers(path) == list(range(count * FRAMES))
    assert steps(path) == pytest.approx([1 / FPS] * (count * FRAMES - 1), abs=0.002)
    assert probe(path).duration == pytest.approx(count * FRAMES / FPS, abs=0.01)


@pytest.mark.parametrize("later", [0.0, 0.5, 1.0, 100.0, 3600.0, 50000.0, WRAP - 1])
def test_the_second_clock_may_show_anything(later: float, tmp_path: Path) -> None:
    """Behind, within and far ahead of the first recording's times, and running over 33 bits in its middle."""
    source = recording(tmp_path / "source.mp4", FRAMES)
    second = remux(source, tmp_path / "second.ts", shifted(later, 0, TICK))
    path = joined(tmp_path / "joined.ts", recording(tmp_path / "first.ts", 0), second)
    assert numbers(path) == list(range(2 * FRAMES))
    assert steps(path) == pytest.approx([1 / FPS] * (2 * FRAMES - 1), abs=0.002)


def test_a_short_pause_of_the_clock_is_kept(tmp_path: Path) -> None:
    source = recording(tmp_path / "source.mp4", FRAMES)
    second = remux(source, tmp_path / "second.ts", shifted(5.0, 0, TICK))
    path = joined(tmp_path / "joined.ts", recording(tmp_path / "first.ts", 0), second)
    assert numbers(path) == list(range(2 * FRAMES))
    assert max(steps(path)) == pytest.approx(5.0 - FRAMES / FPS, abs=0.1)


def test_a_clock_that_starts_again_where_decoding_cannot_is_refused(tmp_path: Path) -> None:
    """The second recording begins in the middle of a group of pictures, whose first pictures are lost."""
    source = recording(tmp_path / "source.mp4", FRAMES, options={"x264-params": "repeat-headers=1"})
    second = remux(source, tmp_path / "second.ts", lambda index, piece: piece if index > 5 else None)
    path = joined(tmp_path / "joined.ts", recording(tmp_path / "first.ts", 0), second)
    with pytest.raises(UnsupportedVideoError, match=r"joined\.ts: the timestamps start again after 1\.6 s") as raised:
        probe(path)
    assert f"ffmpeg -i {path} -an -vf 'setpts=N/(30*TB)' -c:v libx264" in raised.value.remedy


def test_pictures_that_lead_into_a_later_recording_are_left_out(tmp_path: Path) -> None:
    """They refer to a picture before the first of their recording, which is not in the file."""
    settings = {"codec": "libx265", "options": {"x265-params": X265}}
    source = recording(tmp_path / "source.mp4", FRAMES, **settings)
    packets = pieces(source)
    key = next(index for index, piece in enumerate(packets) if index and piece.is_key)
    place = sorted(piece.pts for piece in packets).index(packets[key].pts)
    assert place > key  # some are stored after it and shown before it
    second = remux(source, tmp_path / "second.ts", lambda index, piece: piece if index >= key else None)
    path = joined(tmp_path / "joined.ts", recording(tmp_path / "first.ts", 0, **settings), second)
    assert numbers(path) == [*range(FRAMES), *range(FRAMES + place, 2 * FRAMES)]


@pytest.mark.parametrize("start", [WRAP - 1.5, WRAP - 0.5, WRAP / 2, WRAP - 30])
@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_a_clock_of_33_bits_may_run_over(suffix: str, start: float, tmp_path: Path) -> None:
    settings = {"codec": "mpeg2video"} if suffix == ".mpg" else {}
    source = recording(tmp_path / "source.mp4", 0, **settings)
    path = remux(source, tmp_path / f"over{suffix}", shifted(start, 0, TICK))
    assert numbers(path) == list(range(FRAMES))
    assert probe(path).duration == pytest.approx(FRAMES / FPS, abs=0.01)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".flv"])
def test_a_clock_that_jumps_ahead_is_refused_unless_the_sound_goes_on(suffix: str, tmp_path: Path) -> None:
    source = recording(tmp_path / "source.mp4", 0)
    silent = remux(source, tmp_path / f"silent{suffix}", shifted(3600.0, 24, TICK))
    with pytest.raises(UnsupportedVideoError, match=rf"silent{suffix}: the timestamps jump ahead by 3600\.0 s"):
        probe(silent)
    jumps = [(0.0, 0.8), (100.8, 101.6)]
    both = remux(source, tmp_path / f"both{suffix}", shifted(100.0, 24, TICK), sound=jumps)
    with pytest.raises(UnsupportedVideoError, match=r"jump ahead by 100\.0 s, 0\.8 s after the first") as raised:
        probe(both)
    assert raised.value.remedy.count("ffmpeg -i") == 2
    still = remux(source, tmp_path / f"still{suffix}", shifted(100.0, 24, TICK), sound=[(0.0, 101.6)])
    assert probe(still).duration == pytest.approx(100 + FRAMES / FPS, abs=0.1)
    assert numbers(still) == list(range(FRAMES))


@pytest.mark.parametrize("at", ["an entry", "another picture"])
def test_a_jump_in_a_transport_stream_is_closed_as_ffmpeg_does(at: str, tmp_path: Path) -> None:
    source = recording(tmp_path / "source.mp4", 0)
    path = remux(source, tmp_path / "jump.ts", shifted(3600.0, 24 if at == "an entry" else 30, TICK))
    if at == "an entry":
        assert numbers(path) == list(range(FRAMES))
        assert probe(path).duration == pytest.approx(FRAMES / FPS, abs=0.01)
    else:
        with pytest.raises(UnsupportedVideoError, match=r"jump ahead by 3599\.9 s"):
            probe(path)


def test_a_slide_show_holds_its_pictures(tmp_path: Path) -> None:
    """A picture every five minutes, and no sound: nothing jumps."""
    path = write_video(tmp_path / "slides.mp4", stamps=[300_000 * index for index in range(8)], frames=8)
    assert probe(path).duration == pytest.approx(2400, abs=300)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".flv"])
def test_pictures_that_begin_after_the_sound_are_on_the_clock_of_subtitles(suffix: str, tmp_path: Path) -> None:
    source = recording(tmp_path / "source.mp4", 0)
    path = remux(source, tmp_path / f"late{suffix}", shifted(3.0, 0, TICK), sound=[(0.0, 5.0)])
    video = probe(path)
    assert video.start == pytest.approx(3.0, abs=0.07)  # an encoder's delay is before second 0 in some containers
    assert video.duration == pytest.approx(video.start + FRAMES / FPS, abs=0.04)
    assert video.fps == pytest.approx(FPS, rel=0.01)
    assert candidate_times(video, 1.0) == (video.start, video.start + 1)
    with reader().open(path) as opened:
        early, frame = opened.frames_at([0.0, 4.1])
    assert early.time == video.start
    assert read_barcode(frame.pixels) == pytest.approx((4.1 - video.start) * FPS, abs=1)
    lines = tmp_path / "lines.srt"
    lines.write_text("1\n00:00:01,100 --> 00:00:01,200\nno\n\n2\n00:00:04,000 --> 00:00:04,200\nyes\n")
    question = Question("q", str(path), "What?", subtitles=Subtitles(str(lines)))
    said = SubtitleFinder(SubtitleChoice.AT_FRAMES).find(question, video, video, [frame.time])
    assert [line.text for line in said.lines] == ["yes"]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_sound_that_begins_later_and_small_delays_move_nothing(suffix: str, tmp_path: Path) -> None:
    source = recording(tmp_path / "source.mp4", 0)
    later = remux(source, tmp_path / f"later{suffix}", sound=[(3.0, 5.0)])
    together = remux(source, tmp_path / f"together{suffix}", sound=[(0.0, 1.6)])
    alone = remux(source, tmp_path / f"alone{suffix}", shifted(3.0, 0, TICK))
    for path in (later, together, alone):
        assert (probe(path).start, probe(path).frame_count) == (0.0, FRAMES)
        assert probe(path).duration == pytest.approx(FRAMES / FPS, abs=0.04)


def test_an_edit_list_that_begins_late_is_followed(tmp_path: Path) -> None:
    """Pictures before second 0 are cut off by the edit list that the muxer writes for them."""
    source = recording(tmp_path / "source.mp4", 0)
    path = remux(source, tmp_path / "cut.mp4", shifted(-0.5, 0, TICK), options={"avoid_negative_ts": "disabled"})
    assert numbers(path) == list(range(15, FRAMES))


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_two_pictures_of_one_time_are_refused(suffix: str, tmp_path: Path) -> None:
    source = recording(tmp_path / "source.mp4", 0)
    stamps = sorted(piece.pts for piece in pieces(source))
    twice = {stamps[30]: stamps[31]}
    path = remux(
        source, tmp_path / f"twice{suffix}", lambda index, piece: replace(piece, pts=twice.get(piece.pts, piece.pts))
    )
    with pytest.raises(UnsupportedVideoError, match=rf"twice{suffix}: several pictures carry one timestamp"):
        probe(path)


def with_edits(source: Path, target: Path, edits: list[tuple[int, int]]) -> Path:
    """An MP4 file that shows parts of its media: milliseconds for how long, and the first picture's number."""
    data = bytearray(source.read_bytes())
    at = data.index(b"elst") - 4
    old = int.from_bytes(data[at : at + 4], "big")
    _, start = struct.unpack_from(">Ii", data, at + 16)
    step = pieces(source)[0].duration
    content = b"elst" + struct.pack(">II", 0, len(edits))
    content += b"".join(struct.pack(">IiI", length, start + step * first, 0x10000) for length, first in edits)
    data[at : at + old] = struct.pack(">I", len(content) + 4) + content
    for box in (b"edts", b"trak", b"moov"):
        place = data.rindex(box, 0, at + 8) - 4
        size = int.from_bytes(data[place : place + 4], "big") + len(content) + 4 - old
        data[place : place + 4] = struct.pack(">I", size)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        (
            [(1000, 18)],
            [*range(18, 48)],
        ),  # from the middle of a group of pictures, whose first are decoded all the same
        ([(500, 0), (500, 33)], [*range(15), *range(33, 48)]),
        ([(500, 0), (500, 0), (500, 0)], [*range(15)] * 3),
    ],
)
def test_an_edit_list_of_several_parts_is_followed(
    edits: list[tuple[int, int]], expected: list[int], tmp_path: Path
) -> None:
    source = recording(tmp_path / "source.mp4", 0)
    path = with_edits(source, tmp_path / "edited.mp4", edits)
    assert numbers(path) == expected
    assert probe(path).duration == pytest.approx(len(expected) / FPS, abs=0.11)


@pytest.mark.parametrize(
    ("name", "settings"), [("raw.h264", {}), ("raw.obu", {"codec": "libsvtav1", "options": {"preset": "10"}})]
)
def test_a_stream_that_stores_no_times_is_refused(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """FFmpeg would give it 25 pictures a second."""
    path = recording(tmp_path / name, 0, **settings)
    with pytest.raises(UnsupportedVideoError, match=rf"{name} stores no times, only pictures") as raised:
        probe(path)
    assert raised.value.remedy.startswith(f"convert it: ffmpeg -r 25 -i {path} -c:v libx264")


def test_a_rate_in_the_headers_of_a_stream_is_taken(tmp_path: Path) -> None:
    path = recording(tmp_path / "raw.m2v", 0, codec="mpeg2video")
    assert numbers(path) == list(range(FRAMES))
    assert probe(path).fps == pytest.approx(FPS)
