"""What scripts/setup installs, with an interpreter that only writes down how it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
INTERPRETER = """#!/bin/sh
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *" install "*) echo "$*" >> "$CALLS"; case "$*" in *"$FAILS"*) exit 1 ;; esac ;;
  *urlopen*) exit 1 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("setup", "constraints-cpu.txt"):
        shutil.copy(SCRIPTS / name, tmp_path / "scripts" / name)
    shutil.copy(SCRIPTS.parent / "pyproject.toml", tmp_path)
    interpreter = tmp_path / "python"
    interpreter.write_text(INTERPRETER)
    interpreter.chmod(0o755)
    return tmp_path


def set_up(checkout: Path, *words: str, fails: str = "nothing of it") -> tuple[int, list[str]]:
    """The exit code, and what was installed."""
    calls = checkout / "calls"
    calls.write_text("")
    own = {"PYTHON": str(checkout / "python"), "GENS_VENV": str(checkout / "made"), "CALLS": str(calls), "FAILS": fails}
    done = subprocess.run([checkout / "scripts/setup", *words], env=os.environ | own, capture_output=True, check=False)
    return done.returncode, [line.split()[-1] for line in calls.read_text().splitlines()]


def test_the_demo_installs_no_extra_and_the_tests_add_theirs_once(checkout: Path) -> None:
    assert set_up(checkout) == (0, ["torch==2.13.*", "."])
    assert set_up(checkout) == (0, [])
    assert set_up(checkout, "--tests") == (0, [".[dev]"])
    assert set_up(checkout, "--tests") == set_up(checkout) == (0, [])


def test_what_was_not_installed_is_tried_again(checkout: Path) -> None:
    assert set_up(checkout, "--tests", fails="[dev]") == (1, ["torch==2.13.*", ".", ".[dev]"])
    assert set_up(checkout, "--tests") == (0, [".[dev]"])


def test_a_misspelt_word_installs_nothing(checkout: Path) -> None:
    assert set_up(checkout, "--test") == (2, [])
