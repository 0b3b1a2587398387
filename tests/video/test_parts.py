"""A file that is read in parts gives the scan of one that is read from beginning to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from made_streams import marked, remux

from pipeline.video import parts
from pipeline.video import scan as scanning
from pipeline.video.scan import Scan


class InTurn:
    """Works one after another, in this process."""

    most = 5

    def __init__(self) -> None:
        self.given: list[Any] = []

    def __call__(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        self.given = [work() for work in works]
        return self.given


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_PACKETS", 12)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups of ten pictures with B-frames between them."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    dice = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10, options={"g": "10", "bf": "2", "b-pyramid": "none"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(95):
            pixels = np.kron(dice.integers(0, 255, (6, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def differences(one: Any, other: Any, name: str = "scan") -> list[str]:
    if is_dataclass(one):
        pairs = [(getattr(one, each.name), getattr(other, each.name), f"{name}.{each.name}") for each in fields(one)]
        return [found for pair in pairs for found in differences(*pair)]
    if isinstance(one, dict):
        same = list(one) == list(other) and not any(differences(one[key], other[key]) for key in one)
    elif isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and np.array_equal(one, other)
    else:
        same = type(one) is type(other) and one == other
    return [] if same else [name]


def in_parts(path: Path) -> tuple[Scan, list[Any]]:
    forks = InTurn()
    scanning._scan.cache_clear()
    with parts.reading_with(forks):
        found = scanning.scan(path)
    scanning._scan.cache_clear()
    return found, forks.given


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sound": [(0.0, 9.0)]},
        {"sound": [(1.0, 4.0), (6.0, 12.0)]},
        {"options": {"movflags": "faststart"}},
        {"options": {"use_editlist": "0"}, "sound": [(0.0, 9.0)]},
        {"options": {"movie_timescale": "1000"}, "change": lambda index, piece: piece if index < 88 else None},
    ],
)
def test_all_packets_are_found_as_in_one_piece(film: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    path = remux(film, tmp_path / "film.mp4", **options)
    found, given = in_parts(path)
    assert not differences(scanning.scan(path), found)
    assert len(given) == 5 + bool(options.get("sound"))
    assert None not in given


@pytest.mark.parametrize(
    ("name", "options", "parts_read"),
    [
        ("film.mkv", {}, 0),
        ("fragments.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}, 0),
        ("marked.mp4", {"change": marked}, 5),  # parts would begin in the middle of a group
    ],
)
def test_other_files_are_read_in_one_piece(
    film: Path, tmp_path: Path, name: str, options: dict[str, Any], parts_read: int
) -> None:
    path = remux(film, tmp_path / name, **options)
    found, given = in_parts(path)
    assert not differences(scanning.scan(path), found)
    assert len(given) == parts_read
    assert not given or None in given


@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_cut_file_is_read_in_one_piece(film: Path, tmp_path: Path, share: float) -> None:
    path = remux(film, tmp_path / "film.mp4", options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    found, given = in_parts(path)
    assert not differences(scanning.scan(path), found)
    assert found.timeline.is_truncated
    assert None in given
