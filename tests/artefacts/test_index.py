"""A large journal opens by its index, which is never believed about a file that it does not fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import psutil
import pytest
from made_runs import made_questions, made_relevances

from pipeline.artefacts import index
from pipeline.artefacts.index import INDEX_SUFFIX, SMALLEST, read_index
from pipeline.artefacts.journal import Journal
from pipeline.artefacts.rows import RelevanceRow, to_line
from pipeline.domain import Question

SECONDS = 2700
KILLED = """
import sys
from pathlib import Path
from made_runs import made_questions, made_relevances
from pipeline.artefacts import journal
from pipeline.artefacts.rows import RelevanceRow
journal._UNINDEXED = 300_000
with journal.Journal(RelevanceRow, Path(sys.argv[1])) as written:
    for row in made_relevances(made_questions(2000, 20, 2700), 2700):
        written.append(row)
"""


def journal(path: Path, count: int) -> list[Question]:
    questions = made_questions(count, 4, SECONDS)
    with Journal(RelevanceRow, path) as written:
        for row in made_relevances(questions, SECONDS):
            written.append(row)
    return questions


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Question]]:
    path = tmp_path_factory.mktemp("journal") / "relevance.jsonl"
    return path, journal(path, 30)


@pytest.fixture
def copied(made: tuple[Path, list[Question]], tmp_path: Path) -> Path:
    """The journal with its index; the time of its last change is another."""
    for path in made[0].parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / made[0].name


def keys(path: Path, questions: list[Question]) -> list[str]:
    with Journal(RelevanceRow, path) as opened:
        found = [opened.find(question, opened._places[question.id].key) for question in questions]
    assert [row and row.question.id for row in found] == [question.id for question in questions]
    return [row.key for row in found if row]


def known(path: Path) -> index.Index | None:
    return read_index(path, RelevanceRow.schema)


def test_what_the_index_says_is_what_a_scan_says(made: tuple[Path, list[Question]], copied: Path) -> None:
    path, questions = made
    assert path.stat().st_size > SMALLEST
    by_index = known(path)
    assert by_index is not None
    assert by_index.size == path.stat().st_size
    copied.with_name(copied.name + INDEX_SUFFIX).unlink()
    with Journal(RelevanceRow, copied) as scanned:
        assert scanned._places == by_index.places
        assert scanned._crc == by_index.crc
    assert keys(path, questions) == keys(copied, questions)


def test_a_journal_with_an_index_is_not_read(
    made: tuple[Path, list[Question]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "_add", lambda *_: pytest.fail("the file was read"))
    monkeypatch.setattr(index, "_crc", lambda *_: pytest.fail("the file was read"))
    with Journal(RelevanceRow, made[0]) as opened:
        assert len(opened._places) == 30


def test_rows_after_the_index_are_read_and_counted(made: tuple[Path, list[Question]], copied: Path) -> None:
    lines = copied.read_bytes().splitlines(keepends=True)
    later = lines[3].replace(b'"key":"', b'"key":"later', 1)
    with copied.open("ab") as file:
        file.write(b"\n" + later + lines[5][:100])
    with Journal(RelevanceRow, copied) as opened:
        row = opened.find(made[1][3], opened._places[made[1][3].id].key)
        assert row is not None
        assert row.key.startswith("later")
        assert opened.outdated == 0
    assert known(copied) is not None
    assert copied.read_bytes().endswith(later)


@pytest.mark.parametrize("how", ["edited", "shorter", "another"])
def test_an_index_that_does_not_fit_is_made_anew(made: tuple[Path, list[Question]], copied: Path, how: str) -> None:
    lines = copied.read_bytes().splitlines(keepends=True)
    if how == "edited":
        lines[2] = lines[2].replace(b'"sampler":"gens"', b'"sampler":"snag"')
    elif how == "shorter":
        lines = lines[:25]
    else:
        lines = lines[::-1]
    copied.write_bytes(b"".join(lines))
    assert known(copied) is None
    assert len(keys(copied, [question for question in made[1] if question.id < f"q{len(lines):05d}"])) == len(lines)
    again = known(copied)
    assert again is None if len(lines) < 25 else again is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema":"gens/index/9"}', b"\xff" * 40])
def test_a_damaged_index_is_made_anew(made: tuple[Path, list[Question]], copied: Path, content: bytes) -> None:
    beside = copied.with_name(copied.name + INDEX_SUFFIX)
    beside.write_bytes(content)
    assert len(keys(copied, made[1])) == 30
    beside.write_bytes(made[0].with_name(beside.name).read_bytes()[:-300])
    assert len(keys(copied, made[1])) == 30


def test_an_index_that_cannot_be_written_is_left_out(made: tuple[Path, list[Question]], copied: Path) -> None:
    beside = copied.with_name(copied.name + INDEX_SUFFIX)
    beside.unlink()
    beside.mkdir()
    assert len(keys(copied, made[1])) == 30


def test_others_can_read_it(made: tuple[Path, list[Question]]) -> None:
    path = made[0]
    beside = path.with_name(path.name + INDEX_SUFFIX)
    assert beside.stat().st_mode == path.stat().st_mode


def test_a_small_journal_has_none(tmp_path: Path) -> None:
    journal(tmp_path / "relevance.jsonl", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["relevance.jsonl"]


def test_a_kill_at_any_moment_leaves_an_index_that_fits_or_none(tmp_path: Path) -> None:
    """Written every few rows, killed within a few of them."""
    path = tmp_path / "relevance.jsonl"
    here = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    for goal in (1_500_000, 2_300_000, 3_000_000):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], env=environment)
        deadline = time.monotonic() + 60
        while (not path.exists() or path.stat().st_size < goal) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        told = known(path)
        assert told is not None
        with Journal(RelevanceRow, path) as opened:
            by_index = dict(opened._places)
        path.with_name(path.name + INDEX_SUFFIX).unlink()
        with Journal(RelevanceRow, path) as opened:
            assert opened._places == by_index


def test_opening_takes_little_memory(made: tuple[Path, list[Question]], copied: Path) -> None:
    copied.with_name(copied.name + INDEX_SUFFIX).unlink()
    tracemalloc.start()
    Journal(RelevanceRow, copied).close()
    scanned = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    Journal(RelevanceRow, copied).close()
    indexed = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scanned < 2_000_000
    assert indexed < 300_000


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_gigabyte_opens_in_thirty_seconds_with_300_mb(tmp_path: Path) -> None:
    path = tmp_path / "relevance.jsonl"
    questions = made_questions(13_000, 500, SECONDS)
    with path.open("wb") as file:
        for row in made_relevances(questions, SECONDS):
            file.write(to_line(row))
    assert path.stat().st_size > 0.75e9
    process = psutil.Process()
    for most in (30.0, 5.0):
        before, began = process.memory_info().rss, time.process_time()
        with Journal(RelevanceRow, path) as opened:
            assert time.process_time() - began < most
            assert process.memory_info().rss - before < 100e6
            assert len(opened._places) == 13_000
    assert process.memory_info().rss < 300e6
