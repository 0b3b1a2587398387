"""Whatever one video does while it is read is told of that video, and ends nothing else."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from barcode_videos import write_video

from pipeline.domain import Status
from pipeline.errors import ConfigError, EmptyVideoError, MissingVideoError, UnsupportedVideoError, VideoError
from pipeline.video import Reader, probe, probing, source
from pipeline.video.failures import reading
from pipeline.video.remembering import RememberingReader


def reader(backend: str = "pyav") -> Reader:
    return Reader(name="test", backend=backend, threads=1, image_fps=1.0)  # type: ignore[arg-type]


def read_all(path: Path) -> int:
    """Open a video, read some of its pictures, and check that a failure names it; gives how many were given."""
    given = 0
    failure: VideoError | None = None
    try:
        with reader("auto").open(path) as opened:
            last = opened.video.duration
            for _ in opened.frames_at([0.0, last / 3, last * 0.9]):
                given += 1
    except VideoError as error:
        failure = error
    if failure is not None:
        assert path.name in failure.problem
        assert failure.remedy
    return given


@pytest.fixture(scope="module")
def fragmented(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    movflags = {"movflags": "frag_keyframe+empty_moov"}
    path = tmp_path_factory.mktemp("fragmented") / "whole.mp4"
    return write_video(path, options={"g": "8"}, container_options=movflags, frames=32).read_bytes()


def test_a_fragmented_file_may_be_cut_anywhere(fragmented: bytes, tmp_path: Path) -> None:
    given = []
    for number, length in enumerate(range(1, len(fragmented), 331)):
        path = tmp_path / f"cut{number}.mp4"
        path.write_bytes(fragmented[:length])
        given.append(read_all(path))
    assert {0, 1} <= set(given), "cuts before the first picture and behind it"


@pytest.mark.parametrize("name", ["plain.mp4", "plain.mkv", "plain.avi", "plain.ts"])
def test_a_byte_of_a_header_may_be_wrong(name: str, tmp_path: Path) -> None:
    whole = write_video(tmp_path / f"whole-{name}", frames=4).read_bytes()
    places = [*range(0, 400, 7), *range(len(whole) - 700, len(whole), 11)]
    for number, place in enumerate(places):
        data = bytearray(whole)
        data[place] ^= 0xFF
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(data)
        read_all(path)
        path.unlink()


def test_whatever_is_raised_is_told_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "film.mp4", frames=8)

    def stumble(*_: object) -> None:
        raise IndexError("list index out of range")

    remembering = RememberingReader("test", "pyav", 1, 1.0, probe_store=tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr(probing, "scan", stumble)
        for look in (probe, reader().probe, reader().open, remembering.look):
            with pytest.raises(VideoError, match=r"film\.mp4 cannot be read \(IndexError: list index") as raised:
                look(path)
            assert raised.value.status is Status.UNREADABLE_VIDEO
    with reader().open(path) as opened, monkeypatch.context() as patched:
        patched.setattr(type(opened._decoder), "pictures", stumble)
        with pytest.raises(VideoError, match=r"film\.mp4 cannot be read \(IndexError"):
            list(opened.frames_at([0.0]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([np.zeros((96, 160, 4), np.uint8)], r"\[96, 160, 4\] uint8 for frame 0, not \[96, 160, 3\] uint8"),
        ([np.zeros((96, 160), np.uint8)], r"\[96, 160\] uint8 for frame 0"),
        ([np.zeros((96, 160, 3), np.float32)], r"float32 for frame 0"),
        ([np.zeros((160, 96, 3), np.uint8)], r"\[160, 96, 3\] uint8 for frame 0"),
        ([np.zeros((96, 160, 3), np.uint8)], "nothing for frame 6"),
        ([np.zeros((96, 160, 3), np.uint8)] * 3, "more than the 2 frames asked for"),
    ],
)
def test_a_backend_that_gives_something_else_than_pictures_is_refused(
    given: list[np.ndarray], words: str, tmp_path: Path
) -> None:
    class Wrong:
        name = "wrong"
        walked = None

        def pictures(self, indices: object) -> Iterator[np.ndarray]:
            return iter(given)

        def close(self) -> None: ...

    opened = reader().open(write_video(tmp_path / "film.mp4", frames=8))
    wrong = source.OpenVideo(opened.video, opened._timeline, Wrong(), has_one_size=True)
    with pytest.raises(UnsupportedVideoError, match=rf"film\.mp4: the wrong decoder gives .*{words}") as raised:
        list(wrong.frames_at([0.0, 0.2]))
    assert "reader.backend=auto" in raised.value.remedy
    assert raised.value.status is Status.UNREADABLE_VIDEO


def test_errors_without_the_name_get_it_and_settings_stay_settings() -> None:
    with pytest.raises(EmptyVideoError, match=r"/videos/a\.mp4: no picture") as raised, reading("/videos/a.mp4"):
        raise EmptyVideoError("no picture", "fetch it again")
    assert raised.value.remedy == "fetch it again"
    with pytest.raises(ConfigError), reading("/videos/a.mp4"):
        raise ConfigError("reader.image_fps=0 is not a rate", "set reader.image_fps=1")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def _folder(path: Path) -> None:
    path.mkdir()


def _link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _link_to_nothing(path: Path) -> None:
    path.symlink_to("elsewhere.mp4")


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _locked(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path.write_bytes(b"x")
    path.chmod(0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (_pipe, UnsupportedVideoError, "is a named pipe"),
        (_socket, UnsupportedVideoError, "is a socket"),
        (_folder, EmptyVideoError, "holds no images"),
        (_link_to_zero, UnsupportedVideoError, "is a device"),
        (_link_to_nothing, MissingVideoError, r"is a link to elsewhere\.mp4"),
        (_link_to_itself, VideoError, "cannot be read"),
        (_locked, VideoError, "Permission denied"),
    ],
)
def test_what_is_no_regular_file_is_named_and_never_waited_for(
    make: Callable[[Path], None], error: type[VideoError], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.mp4"
    make(path)
    for look in (probe, reader("auto").open):
        with pytest.raises(error, match=words) as raised:
            look(path)
        assert "a.mp4" in raised.value.problem


def test_names_that_are_hard_to_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~draft.mp4", os.fsdecode(b"caf\xe9.mp4"), "a:b%03d.mp4", "concat:x.mp4", "-i.mp4"):
        write_video(tmp_path / "plain.mp4", frames=4).rename(name)
        assert read_all(Path(name)) == 3, name
    with pytest.raises(VideoError, match="not the path of a file"):
        probe("a\0b.mp4")
    with pytest.raises(MissingVideoError):
        probe("a:b%03d.mp4/part.mp4")
