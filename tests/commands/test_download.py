"""``gens download`` as a user meets it: against a hub that answers, one that asks for consent, and none."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from command_line import gens, gens_apart
from hub_server import hub
from huggingface_hub import DryRunFileInfo
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pipeline.artefacts.entries import checked
from pipeline.benchmarks.origin import Origin, Part, by_hand, fetch
from pipeline.benchmarks.unpacking import unpack
from pipeline.config import conf_dir, register_resolvers
from pipeline.errors import InputError, StorageError

LVB = "longvideobench/LongVideoBench"
PUBLISHED = sorted(file.stem for file in (conf_dir() / "benchmark").glob("*.yaml") if "\norigin:" in file.read_text())


def tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def lvb_files() -> dict[str, bytes]:
    row = {
        "id": "a_0",
        "video_path": "a.mp4",
        "question": "what?",
        "candidates": ["x", "y"],
        "correct_choice": 0,
        "topic_category": "t",
        "question_category": "S2E",
        "level": "L1-Perception",
        "duration_group": 15,
        "duration": 10.0,
        "position": [24],
        "subtitle_path": "a_en.json",
    }
    videos = tar({f"videos/{name}.mp4": name.encode() * 40_000 for name in "ab"})
    return {
        "README.md": b"not asked for",
        "lvb_val.json": json.dumps([row]).encode(),
        "lvb_test_wo_gt.json": b"[]",
        "subtitles.tar": tar({"subtitles/a_en.json": b"[]"}),
        "videos.tar.part.aa": videos[:30_001],
        "videos.tar.part.ab": videos[30_001:],
    }


def download(home: Path, endpoint: str, *words: str) -> subprocess.CompletedProcess[str]:
    # A cache of its own: otherwise the hub's client would look at what the machine has.
    environment = {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
    }
    return gens_apart("download", *words, cwd=home, **environment)


def test_annotations_come_first_and_videos_when_they_are_wanted(tmp_path: Path) -> None:
    there = tmp_path / "data" / "LongVideoBench"
    with hub({LVB: lvb_files()}) as endpoint:
        first = download(tmp_path, endpoint, "benchmark=longvideobench")
        assert first.returncode == 0, first.stderr
        for told in ("CC-BY-NC-SA-4.0", LVB, "162 GB", "videos=true", "after consent", "benchmark.path="):
            assert told in first.stdout
        assert (there / "lvb_val.json").is_file()
        assert (there / "subtitles" / "a_en.json").read_bytes() == b"[]"
        assert not (there / "videos").exists()
        assert not (there / "README.md").exists()

        second = download(tmp_path, endpoint, "benchmark=longvideobench", "videos=true")
        assert second.returncode == 0, second.stderr
    assert (there / "videos" / "b.mp4").read_bytes() == b"b" * 40_000
    # Nothing needs to be typed now but that this is a part.
    words = ("benchmark=longvideobench", "benchmark.rows=null", "selection.budget=4", "tolerances=[1]")
    recall = gens("recall", *words, cwd=tmp_path)
    assert recall.returncode == 0, recall.stderr


def test_consent_is_asked_for_by_name(tmp_path: Path) -> None:
    with hub({LVB: lvb_files()}, gated=frozenset({LVB})) as endpoint:
        done = download(tmp_path, endpoint, "benchmark=longvideobench")
    assert done.returncode == 2, done.stdout
    assert "ask for consent first" in done.stderr
    assert f"agree on https://huggingface.co/datasets/{LVB}" in done.stderr
    assert "hf auth login" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    with hub({LVB: lvb_files()}, claimed=10**15) as endpoint:
        done = download(tmp_path, endpoint, "benchmark=longvideobench")
    assert done.returncode == 2, done.stdout
    assert "6000000.0 GB are needed" in done.stderr  # three files, and as much again unpacked
    assert "paths.data=FOLDER" in done.stderr
    assert not (tmp_path / "data" / "LongVideoBench" / "lvb_val.json").exists()


def test_a_hub_that_hangs_up_is_told_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with hub({LVB: lvb_files()}, breaks=True) as endpoint:
        done = download(tmp_path, endpoint, "benchmark=longvideobench")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the hub did not give it" in done.stderr
    assert "Traceback" not in done.stderr
    with hub({LVB: lvb_files()}) as endpoint:
        again = download(tmp_path, endpoint, "benchmark=longvideobench")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "data" / "LongVideoBench" / "lvb_val.json").read_bytes() == lvb_files()["lvb_val.json"]


def test_a_place_that_cannot_be_written_names_the_override(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with hub({LVB: lvb_files()}) as endpoint:
        done = download(tmp_path, endpoint, "benchmark=longvideobench")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "paths.data=FOLDER" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_repository_that_has_changed_or_gone_says_where_to_look(tmp_path: Path) -> None:
    with hub({LVB: {"README.md": b"moved"}}) as endpoint:
        moved = download(tmp_path, endpoint, "benchmark=longvideobench")
        gone = download(tmp_path, endpoint, "benchmark=lvbench")
    assert (moved.returncode, gone.returncode) == (2, 2)
    assert "has none of lvb_val.json" in moved.stderr
    assert "there is no data set zai-org/LVBench on the hub" in gone.stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("longvideobench", ["'subtitles.tar'", "unpack the archives", "agree on https://"]),
        ("hourvideo", ["'v1.0_release/*'", "by hand: the videos are Ego4D's"]),
    ],
)
def test_without_network_the_command_says_what_goes_where(tmp_path: Path, name: str, told: list[str]) -> None:
    folder = {"longvideobench": "data/LongVideoBench", "hourvideo": "data/HourVideo"}[name]
    # A folder that has something in it is not a sign that the hub was reached.
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "something").touch()
    done = gens_apart("download", f"benchmark={name}", cwd=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 2, done.stdout
    assert "hf download" in done.stderr
    assert f"--local-dir {folder}" in done.stderr
    for word in told:
        assert word in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_benchmark_says_where_it_comes_from_and_reads_from_there(name: str) -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose("download", [f"benchmark={name}", "paths.data=data"]).benchmark
    origin = checked(Origin, OmegaConf.to_container(node.origin, resolve=True), name)
    assert origin.licence
    assert origin.home.startswith("https://")
    assert origin.annotations
    assert origin.videos or origin.by_hand
    if name != "gens_video":  # of which the names of the files are not known
        assert node.path.startswith(f"data/{origin.folder}")
    for part in (*origin.annotations, *origin.videos):
        steps = by_hand(part, Path("data") / origin.folder)
        assert all(pattern in steps for pattern in part.files)


def test_what_is_not_published_has_nothing_to_download(tmp_path: Path) -> None:
    done = gens("download", cwd=tmp_path)
    assert done.returncode == 2
    assert "benchmark=micro has no origin" in done.stderr
    assert "gens list benchmarks" in done.stderr


def test_a_missing_annotation_file_leads_here(tmp_path: Path) -> None:
    done = gens("recall", "benchmark=lvbench", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no file data/LVBench/video_info.meta.jsonl" in done.stderr
    assert "gens download benchmark=lvbench" in done.stderr


def test_archives_are_unpacked_once_and_pieces_are_read_as_one(tmp_path: Path) -> None:
    whole = tar({"a.mp4": b"x" * 5000, "in/b.mp4": b"y" * 5000}, "w:gz")
    pieces = [tmp_path / f"test_video.tar.gz.part-{letter}" for letter in "abc"]
    for piece, content in zip(pieces, (whole[:7], whole[7:50], whole[50:]), strict=True):
        piece.write_bytes(content)
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("data/c.mp4", "z")
    files = [*pieces, tmp_path / "more.zip"]
    unpack(files, tmp_path / "video")
    assert (tmp_path / "video" / "in" / "b.mp4").read_bytes() == b"y" * 5000
    assert (tmp_path / "video" / "data" / "c.mp4").read_text() == "z"

    (tmp_path / "video" / "a.mp4").unlink()
    unpack(files, tmp_path / "video")
    assert not (tmp_path / "video" / "a.mp4").exists()
    pieces[2].write_bytes(whole[50:-20])
    with pytest.raises(InputError, match=r"test_video\.tar\.gz cannot be unpacked"):
        unpack(files, tmp_path / "video")


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(tar({"../outside.txt": b"x"}))
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack([tmp_path / "bad.tar"], tmp_path / "inside")
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize(
    ("error", "file"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "videos.tar"), "videos.tar"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "data"),
        (RuntimeError("Data processing error: IO Error: No space left on device (os error 28)"), "data"),
    ],
)
def test_a_disk_that_fills_up_is_told_with_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, file: str
) -> None:
    def download(*_: object, dry_run: bool, **__: object) -> list[DryRunFileInfo]:
        if not dry_run:
            raise error
        return [DryRunFileInfo("c", 1, "videos.tar", "videos.tar", is_cached=False, will_download=True)]

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(StorageError, match=rf"{file} cannot be written: (No space|Disk quota)") as raised:
        fetch(Part("videos", "somebody/somewhere", False, ("*",), None), tmp_path / "data")
    assert raised.value.remedy == "free some space, then run the same command; or choose another place: paths.data=..."
