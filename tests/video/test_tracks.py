"""Which track is the video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from barcode_videos import barcode, read_barcode, write_video
from made_streams import pieces

from pipeline.errors import NoVideoStreamError
from pipeline.video import Reader, probe


def write_with_cover(path: Path, source: Path | None) -> Path:
    """Cover art as the first track, then the packets of a video, then a second of sound."""
    with av.open(str(path), "w") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 320, 240, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        sound = output.add_stream("aac", rate=16000)
        picture = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 90, np.uint8), format="rgb24")
        picture.pts, picture.time_base = 0, Fraction(1, 1)
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        heard.sample_rate, heard.pts, heard.time_base = 16000, 0, Fraction(1, 16000)
        track = None
        if source is not None:
            with av.open(str(source)) as given:
                track = output.add_stream_from_template(given.streams.video[0], opaque=True)
                time_base = given.streams.video[0].time_base
        output.mux([*cover.encode(picture), *cover.encode(None)])
        output.mux([*sound.encode(heard), *sound.encode(None)])
        for piece in pieces(source) if source is not None and track is not None else ():
            packet = av.Packet(piece.data)
            packet.pts, packet.dts, packet.duration = piece.pts, piece.dts, piece.duration
            packet.time_base, packet.stream, packet.is_keyframe = time_base, track, piece.is_key
            output.mux(packet)
    _move_cover_to_the_front(path)
    with av.open(str(path)) as written:
        assert written.streams.video[0].disposition & Disposition.attached_pic
    return path


def _move_cover_to_the_front(path: Path) -> None:
    """The muxer writes the box with the cover behind the tracks; other programs write it before them."""
    data = path.read_bytes()
    start = data.rindex(b"moov") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    boxes, place = [], start + 8
    while place < end:
        size = int.from_bytes(data[place : place + 4], "big")
        boxes.append(data[place : place + size])
        place += size
    boxes.sort(key=lambda box: (box[4:8] != b"mvhd", box[4:8] != b"udta"))
    path.write_bytes(data[: start + 8] + b"".join(boxes) + data[end:])


def test_cover_art_before_the_pictures_is_passed_over(tmp_path: Path) -> None:
    source = write_video(tmp_path / "source.mp4", frames=30)
    path = write_with_cover(tmp_path / "covered.mp4", source)
    video = probe(path)
    assert (video.width, video.height, video.frame_count, video.start) == (160, 96, 30, 0.0)
    with Reader("test", "auto", 1, 1.0).open(path) as opened:
        assert [read_barcode(frame.pixels) for frame in opened.frames_at([0.01, 0.51, 0.98])] == [0, 15, 29]


def test_sound_with_cover_art_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(NoVideoStreamError, match=r"song\.mp4 holds no pictures, only sound or data"):
        probe(write_with_cover(tmp_path / "song.mp4", None))


def test_the_first_of_several_tracks_is_taken_whatever_its_size(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as output:
        streams = []
        for scale in (1, 2):
            stream = output.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 160 * scale, 96 * scale, "yuv420p"
            streams.append((stream, scale))
        for index in range(30):
            for stream, scale in streams:
                shown = np.kron(barcode(index + 100 * (scale - 1)), np.ones((scale, scale, 1), np.uint8))
                frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 30)
                output.mux(stream.encode(frame))
        for stream, _ in streams:
            output.mux(stream.encode(None))
    with Reader("test", "auto", 1, 1.0).open(path) as opened:
        assert (opened.video.width, opened.video.frame_count) == (160, 30)
        assert [read_barcode(frame.pixels) for frame in opened.frames_at([0.01, 0.51])] == [0, 15]
