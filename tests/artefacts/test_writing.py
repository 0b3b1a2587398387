"""Files have the permissions that umask and folder give them, and a disk that takes no more is told of by name."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pipeline.artefacts.features import FeatureStore
from pipeline.artefacts.folder import write_questions
from pipeline.artefacts.journal import Journal, sole_writer
from pipeline.artefacts.rows import AnswerRow
from pipeline.artefacts.store import ContentStore
from pipeline.artefacts.writing import unwritable, write_parts, write_whole
from pipeline.domain import Answer, Question
from pipeline.errors import BusyError, StorageError
from pipeline.explain import explain

QUESTION = Question("q", "clip.mp4", "what?")


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    yield lambda mask: os.umask(mask) and None
    os.umask(before)


def write_all(folder: Path) -> None:
    ContentStore(folder / "cache", ".json").keep("abcdef", b"{}")
    with sole_writer(folder / "run"):
        write_questions([QUESTION], folder / "run")
        with Journal(AnswerRow, folder / "run" / "answers.jsonl") as journal:
            journal.append(AnswerRow("k", "s", "a", QUESTION, Answer("q", "B")))
        write_whole(b"page", folder / "run" / "report" / "report.html", "target=...")


@pytest.mark.parametrize(
    ("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)]
)
def test_the_umask_decides(tmp_path: Path, umask: Callable[[int], None], mask: int, file: int, folder: int) -> None:
    umask(mask)
    write_all(tmp_path)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {path.name: mode for path, mode in modes.items() if path.is_file() and mode != file} == {}
    assert {path.name: mode for path, mode in modes.items() if path.is_dir() and mode != folder} == {}
    assert {path.name for path in modes} >= {"abcdef.json", ".lock", "questions.jsonl", "answers.jsonl", "report.html"}


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of a group, where other users can go: the folders of pytest are private."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, 0, 4242)
        folder.chmod(0o2775)
        yield folder


def in_child(does: Callable[[], None], user: int | None = None, group: int = 4242) -> None:
    """Do it in a process of its own, of another user where one is named."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if user is not None:
                os.setgroups([])
                os.setgid(group)
                os.setuid(user)
            does()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other users")
def test_a_group_shares_cache_and_run_folder(umask: Callable[[int], None], shared: Path) -> None:
    """The folder's group goes to everything in it."""
    umask(0o002)
    in_child(lambda: write_all(shared), 12345)
    assert {path.stat().st_gid for path in shared.rglob("*")} == {4242}

    def second() -> None:
        write_all(shared)
        assert ContentStore(shared / "cache", ".json").find("abcdef") == b"{}"
        assert len((shared / "run" / "answers.jsonl").read_bytes().splitlines()) == 2

    in_child(second, 54321)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_an_entry_that_its_writer_alone_may_read_is_written_again(umask: Callable[[int], None], shared: Path) -> None:
    umask(0o002)
    store = ContentStore(shared / "cache", ".json")
    store.keep("abcdef", b"old")
    (path,) = (shared / "cache").rglob("abcdef.json")
    path.chmod(0o600)

    def other() -> None:
        assert store.find("abcdef") is None
        store.keep("abcdef", b"new")
        assert store.find("abcdef") == b"new"

    in_child(other, 12345)


def test_the_lock_of_another_process_is_busy(tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path / "run"),
        pytest.raises(BusyError, match="another process"),
        sole_writer(tmp_path / "run"),
    ):
        raise AssertionError


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_asks_for_space(code: int) -> None:
    error = unwritable("answers.jsonl", OSError(code, os.strerror(code)), "paths.runs=...")
    assert error.problem == f"answers.jsonl cannot be written: {os.strerror(code)}"
    assert error.remedy.startswith("free some space, then run the same command")
    other = unwritable("answers.jsonl", OSError(errno.EROFS, os.strerror(errno.EROFS)), "paths.runs=...")
    assert other.remedy == "choose another place: paths.runs=..."


def test_errors_of_a_disk_that_others_report_say_what_to_do() -> None:
    """Python's, where no folder for temporary files takes one, and that of a log, which logging wraps."""
    temporary = explain(FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "ask", [])
    assert temporary is not None
    assert "free some space" in temporary.remedy
    assert "TMPDIR" in temporary.remedy
    wrapped = ValueError("Unable to configure handler 'file'")
    wrapped.__cause__ = PermissionError(errno.EACCES, "Permission denied", "/runs/one/gens.log")
    log = explain(wrapped, "ask", [])
    assert log is not None
    assert log.problem == "/runs/one/gens.log: Permission denied"


def test_a_row_that_does_not_fit_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow."""

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with Journal(AnswerRow, tmp_path / "answers.jsonl") as journal:
            journal.append(AnswerRow("k", "s", "a", QUESTION, Answer("q", "B")))
            with pytest.raises(StorageError, match=r"answers\.jsonl cannot be written: File too large"):
                journal.append(AnswerRow("k", "s", "a", QUESTION, Answer("q", "long " * 500)))
        with pytest.raises(StorageError, match=r"page\.html cannot be written: File too large"):
            write_whole(b"x" * 2000, tmp_path / "page.html", "target=...")
        store = ContentStore(tmp_path / "cache", ".json")
        with pytest.raises(StorageError, match=r"abcdef\.json cannot be written: File too large"):
            store.keep("abcdef", b"x" * 2000)

    in_child(fill)
    (line,) = (tmp_path / "answers.jsonl").read_bytes().splitlines(keepends=True)
    assert line.endswith(b"\n")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["answers.jsonl"]


def test_a_file_of_parts_is_written_as_they_are_made_and_appears_whole(tmp_path: Path) -> None:
    written: list[int] = []

    def parts() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * 100_000
            (file,) = tmp_path.iterdir()
            assert file.name != "table.csv"
            written.append(file.stat().st_size)

    write_parts(parts(), tmp_path / "table.csv", "target=...")
    assert written == [100_000, 200_000, 300_000]
    assert [(file.name, file.stat().st_size) for file in tmp_path.iterdir()] == [("table.csv", 300_000)]


def test_looking_whether_a_cache_can_be_written_makes_no_folder(tmp_path: Path) -> None:
    ContentStore(tmp_path / "deep" / "cache", ".json").check_writable()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        ContentStore(tmp_path / "file" / "cache", ".json").check_writable()
    assert FeatureStore(tmp_path / "nowhere").find("abcdef") is None
