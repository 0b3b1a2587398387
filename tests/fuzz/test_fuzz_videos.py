"""Video files with damage, and the headers that are read without decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fuzzing import Parser, slow_growth, survives
from made import write_video

from pipeline.errors import VideoError
from pipeline.execution.crashes import Crashes
from pipeline.execution.processes import Limits, Pool
from pipeline.execution.reader import in_workers
from pipeline.video import Reader
from pipeline.video.backends.images import read_image_folder
from pipeline.video.containers.matroska import damaged_in_matroska
from pipeline.video.containers.riff import damaged_in_avi
from pipeline.video.headers import look_of
from pipeline.video.references import check_is_no_reference
from pipeline.video.scan import is_animated_webp

CODECS = ("h264", "hevc", "vvc", "av1", "vp8", "vp9", "mpeg4", "mpeg1video", "mpeg2video")
NAL = b"\0\0\0\1\x67\x64\0\x1e\xac\0\0\0\1\x68\xee\0\0\0\1\x65\x88\x84\0\0\0\1\x06\x06\x01\xc4\x80"
MPEG = b"\0\0\1\xb3\x14\0\xf0\x13\0\0\1\xb5\x14\x8a\0\0\1\0\0\x0f\xff\xf8\0\0\1\xb6\x10DivX503b1393p"
LENGTHS = (
    b"\x01\x64\0\x1e\xff\xe1\0\x08\x67\x64\0\x1e\xac\xd9\x40\xa0\x01\0\x05\x68\xee\x3c\x80\0\0\0\x05\x65\x88\x84\0"
)
OBU = b"\x12\0\x0a\x0b\0\0\0\x24\xcf\x7f\x0d\xbf\xff\x30\x08\x32\x10\x10\0\x8b\x20\x06\x0a\x04\x81\x0c\0"
HEADERS = (NAL, MPEG, LENGTHS, OBU, b"\x50\x42\0\x9d\x01\x2a\x40\0\x40\0", b"\x82\x49\x83\x42\0\x03\xf0\x03\xf6\x06")


def headers(path: Path) -> None:
    """A packet of every codec; what comes before the first of its bytes is the track's extradata."""
    content = path.read_bytes()
    cut = content[0] % 64 if content else 0
    for codec in CODECS:
        for extradata in (b"", content[:cut]):
            look = look_of(codec, extradata)
            assert look is not None
            look(memoryview(content[cut:] or b"\0"))  # type: ignore[arg-type]


def containers(path: Path) -> None:
    size = path.stat().st_size
    for places in (np.zeros(0, np.int64), np.array(sorted({0, size // 2, size}), np.int64)):
        assert len(damaged_in_matroska(path, places)) == len(places)
        assert len(damaged_in_avi(path, places)) == len(places)
    is_animated_webp(path)
    check_is_no_reference(path, path)


def images(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(path.with_name("sec000.png"))
    with Reader("test", "auto", 1, 1.0).open(path.parent) as source:
        list(source.frames_at([0.0, 1.0]))
    read_image_folder(path.parent, 1.0)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    made = Pool(Limits(workers=1, deadline=20.0, memory_bytes=1 << 30, waiting_bytes=1 << 28))
    yield made
    made.close()


def opened(pool: Pool, store: Path) -> Callable[[Path], None]:
    """As runs do: a worker scans and decodes, as FFmpeg may end the process that does."""
    reader = in_workers(Reader("test", "auto", 1, 1.0), pool, Crashes(store, "auto", True))

    def read(path: Path) -> None:
        with reader.open(path) as source:
            assert len(list(source.frames_at([source.video.start]))) == 1

    return read


def picture() -> bytes:
    import io

    from PIL import Image

    written = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(written, "JPEG")
    return written.getvalue()


BOXES = b"\0\0\0\x14ftypisom\0\0\2\0isom\0\0\0\x2cmoov\0\0\0\x24trak\0\0\0\x1cmdia\0\0\0\x14minf\0\0\0\x0cdinf\0\0\0\0"
EBML = b"\x1a\x45\xdf\xa3\x84\x42\x86\x81\x01\x18\x53\x80\x67\xff\x10\x43\xa7\x70\x86\x45\xb9\x83\xb6\x81\0\x1f\x43"
AVI = b"RIFF\x40\0\0\0AVI LIST\x10\0\0\0hdrlavih\x04\0\0\0\0\0\0\0LIST\x10\0\0\0movi00dc\x04\0\0\0\0\0\0\0"
BARE = [
    Parser("headers", "packet", HEADERS, headers),
    Parser("containers", "film.bin", [BOXES, EBML, AVI], containers, errors=VideoError, words=[b"dref", b"rmra"]),
    Parser("images", "sec001.jpg", [picture()], images, errors=VideoError, examples=20),
]


def test_any_bytes_give_a_value_or_an_error_that_names_the_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    survives(BARE, tmp_path, is_long=request.config.getoption("--long"))


def test_the_time_to_read_grows_linearly(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    assert slow_growth(BARE[:2], tmp_path, is_long=request.config.getoption("--long")) == []


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts"])
def test_any_video_is_read_or_refused_by_name(
    ending: str, pool: Pool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole = write_video(tmp_path / f"film.{ending}", seconds=2).read_bytes()
    read = opened(pool, tmp_path / "cache")
    parser = Parser(ending, f"film.{ending}", [whole], read, errors=VideoError, examples=10)
    survives([parser], tmp_path, is_long=request.config.getoption("--long"))
