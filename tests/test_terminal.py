"""What others wrote never acts on the terminal, and printing ends no command with a traceback."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import gens
from rich.table import Table

from pipeline.terminal import console, styled, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, été 日本 👩‍👩‍👧\n\tindented", "plain, été 日本 👩‍👩‍👧\n\tindented"),
        ("\x1b[31mred\x1b[0m", "\\u001b[31mred\\u001b[0m"),
        ("title\x1b]0;owned\x07", "title\\u001b]0;owned\\u0007"),
        ("one-byte CSI \x9b2J", "one-byte CSI \\u009b2J"),
        ("over\rwritten\b\b", "over\\u000dwritten\\u0008\\u0008"),
        ("line\r\nends", "line\nends"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\u2066isolated\u2069 \u200fmark", "\\u2066isolated\\u2069 \\u200fmark"),
        ("half \ud83d a pair", "half \\ud83d a pair"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_what_is_shown_stays_json() -> None:
    value = {"label": "\x9b2J\u202e\ud83d\x1b[0m"}
    text = visible(json.dumps(value, ensure_ascii=False))
    assert text.isascii()
    assert json.loads(text) == value


def test_tables_read_no_markup_and_obey_no_escapes() -> None:
    table = Table(box=None)
    table.add_column("[bold]heading[/bold]")
    table.add_row("[/red]")
    table.add_row(styled("[link=x]\x1b[2J"))
    table.add_row("as a str \x1b[2J :smile:")
    printed = console()
    with printed.capture() as captured:
        printed.print(table)
        printed.print("[/] \x9b")
    text = captured.get()
    assert "\x1b" not in text
    assert "\x9b" not in text
    for part in ("[bold]heading[/bold]", "[/red]", "[link=x]\\u001b[2J", ":smile:", "[/] \\u009b"):
        assert part in text


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A benchmark whose video is missing: every question fails at once, and all of its words are printed or stored."""
    row = {
        "id": "q\x1b[31m",
        "video": "gone\x1b]0;owned\x07.mp4",
        "question": "what \u202e now?",
        "options": ["a\x1b[2J", "[/red]"],
        "answer": "[/red]",
        "groups": {"[/red]": "[/blue]\x1b[31m", "second": "²"},
    }
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


MINE = ("benchmark=jsonl", "benchmark.path=q.jsonl", "sampler=uniform", "answerer=qwen2_vl_micro")


def test_names_and_labels_of_others_reach_the_terminal_as_text(home: Path) -> None:
    for words in (
        ["check", *MINE],
        ["check", "--json", *MINE],
        ["sample", *MINE[:3]],
        ["report", "runs=runs"],
        ["ask", "video=gone\x1b[31m.mp4", "question=\x1b[2J[/red]", "sampler=uniform", "answerer=qwen2_vl_micro"],
        ["evaluate", "sampler=\x1b[31m"],
        ["\x1b[31m"],
    ):
        done = gens(*words, cwd=home)
        assert done.returncode in (0, 1, 2), done.stderr
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr, words
        assert "\u202e" not in done.stdout + done.stderr, words


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_without_the_letters_shows_their_numbers(home: Path, encoding: str) -> None:
    words = ("ask", "video=日本 été.mp4", "question=what?", "sampler=uniform", "answerer=qwen2_vl_micro")
    command = [sys.executable, "-m", "pipeline", *words]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "GENS_CACHE": str(home / "cache")}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, check=False)
    told = done.stderr.decode(encoding)
    assert done.returncode == 2, told
    assert "\\u65e5\\u672c" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_end_nothing_and_no_file_takes_their_place(home: Path, closed: str) -> None:
    command = f"{sys.executable} -m pipeline sample {' '.join(MINE[:3])} {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=home, env=os.environ, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    (relevance,) = home.glob("runs/*/relevance.jsonl")
    assert all(json.loads(line)["schema"] for line in relevance.read_bytes().splitlines())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_standard_output_is_told_in_a_line(home: Path) -> None:
    command = f"{sys.executable} -m pipeline list > /dev/full"
    done = subprocess.run(["bash", "-c", command], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: standard output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


def test_a_working_folder_that_is_gone_is_told_in_a_line(tmp_path: Path) -> None:
    command = f"mkdir gone && cd gone && rmdir ../gone && exec {sys.executable} -P -m pipeline list"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "the working folder does not exist any more" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_path_is_missed_by_nobody(home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PATH", "HOME")}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "check", *MINE],
        cwd=home,
        env={**environment, "GENS_CACHE": str(home / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "missing videos: 1" in done.stdout
    assert "Traceback" not in done.stderr


def test_versions_are_told_without_importing_what_they_are_of(tmp_path: Path) -> None:
    probe = (
        "import sys; from pipeline.cli import main; sys.argv = ['gens', '--version']; code = main();"
        "sys.exit(code or 10 * len({'torch', 'transformers', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = dict(line.split(" ") for line in done.stdout.splitlines())
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert told["torch"] == importlib.metadata.version("torch")
    assert {"gens-videoqa", "transformers", "hydra-core"} <= set(told)
