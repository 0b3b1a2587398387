"""Archives that are damaged, or that somebody made to do harm."""

from __future__ import annotations

import errno
import io
import random
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.benchmarks.unpacking import unpack
from pipeline.errors import InputError, StorageError


def zipped(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def tarred(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def refused(archive: Path, target: Path) -> str:
    """Why it is refused, or its name where it is not: some bits of an archive mean nothing."""
    try:
        unpack([archive], target)
    except InputError as error:
        return error.problem
    return archive.name


NOISE = random.Random(1).randbytes(50_000)


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", ["..__evil", "a__..__..__evil", "__evil"])
def test_an_entry_outside_of_the_folder_is_refused_by_name(make: Any, name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / ("a.zip" if make is zipped else "a.tar.gz"), good=b"1", **{name: b"2"})
    with pytest.raises(InputError, match=r"a\.(zip|tar\.gz) cannot be unpacked .* outside"):
        unpack([archive], tmp_path / "in" / "target")
    assert not list(tmp_path.rglob("*evil"))


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_damaged_anywhere_is_refused_by_name_and_leaves_no_half_file(make: Any, tmp_path: Path) -> None:
    name = "a.zip" if make is zipped else "a.tar.gz"
    content = make(tmp_path / name, first=NOISE, second=NOISE[::-1]).read_bytes()
    generator = random.Random(2)
    for number in range(60):
        damaged = bytearray(content)
        place = generator.randrange(len(content)) if number % 3 else generator.randrange(200)
        if number % 2:
            damaged[place] ^= 1 << generator.randrange(8)
        else:
            del damaged[place:]
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(damaged)
        assert name in refused(folder / name, folder / "out")
        left = {file.name: file.read_bytes() for file in (folder / "out").iterdir()}
        assert all(found in (NOISE, NOISE[::-1], b"") for found in left.values())


def test_a_zip_that_is_larger_than_the_disk_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(tmp_path / "bomb.zip", zeros=bytes(10_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**8, 10**8, 5_000_000))
    with pytest.raises(StorageError, match=r"bomb\.zip cannot be unpacked .*0\.0 GB are needed") as error:
        unpack([archive], tmp_path / "out")
    assert error.value.remedy.startswith("free some space, then run the same command; or ")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_disk_that_fills_up_is_told_with_the_file(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make(tmp_path / ("a.zip" if make is zipped else "a.tar.gz"), first=b"1", second=NOISE)

    def copy(source: Any, target: Any, *_: Any, **__: Any) -> None:
        if target.name.endswith("second"):
            target.write(b"some")
            raise OSError(errno.ENOSPC, "No space left on device")
        target.write(source.read(1))

    monkeypatch.setattr("shutil.copyfileobj", copy)
    monkeypatch.setattr("tarfile.copyfileobj", copy)
    with pytest.raises(StorageError, match=r"target/second cannot be written: No space left on device") as error:
        unpack([archive], tmp_path / "target")
    assert error.value.remedy.startswith("free some space, then run the same command; or ")
    assert [path.name for path in (tmp_path / "target").iterdir()] == (["first"] if make is zipped else [])
