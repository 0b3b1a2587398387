"""JSON and YAML that others wrote give a value or a ValueError, whatever they hold; kept errors hold words alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.artefacts.entries import read_entries
from pipeline.commands.outcome import JobStatus, read_outcome
from pipeline.commands.record import record_end
from pipeline.execution.crashes import Crashes
from pipeline.subtitles.cues import srt_cues
from pipeline.video.headers import look_of
from pipeline.video.headers.signs import SHOWN
from pipeline.video.references import check_is_no_reference
from pipeline.wellformed import loaded, loaded_object, loaded_yaml

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (loaded, DEEP),
        (loaded, "9" * 5000),
        (loaded, b"\xff\xfe\xff"),
        (loaded_object, "[1]"),
        (loaded_object, "null"),
        (loaded_yaml, "at: 2026-13-45"),
        (loaded_yaml, "!!timestamp x"),
        (loaded_yaml, "!!int ''"),
        (loaded_yaml, "[" * 3000),
        (loaded_yaml, "a: [b"),
    ],
)
def test_what_cannot_be_read_is_a_value_error(read: Any, text: Any) -> None:
    with pytest.raises(ValueError) as error:
        read(text)
    assert str(error.value)


def test_what_can_be_read() -> None:
    assert loaded('{"a": 1, "a": [2, NaN]}')["a"][0] == 2
    assert loaded_object(b'{"a": 1}') == {"a": 1}
    assert loaded_yaml("a: [1, x]") == {"a": [1, "x"]}


def test_no_module_reads_json_or_yaml_in_a_way_of_its_own() -> None:
    """Except servers' replies, whose every error is caught, and a worker's own arguments."""
    own = re.compile(r"\bjson\.loads?\(|\byaml\.(?:safe_|full_)?load\(")
    root = Path(pipeline.__file__).parent
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if own.search(path.read_text())}
    assert found == {"wellformed.py", "answerers/openai_replies.py", "execution/processes.py", "execution/local.py"}


@pytest.mark.parametrize(
    "content", ["null", "[1]", DEEP, "{", '{"status": "failed", "problem": null}', '{"status": "none"}']
)
def test_a_damaged_outcome_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_text(content)
    (tmp_path / "run.json").write_text(content)
    assert read_outcome(tmp_path).status is JobStatus.NOT_STARTED
    record_end(tmp_path)


@pytest.mark.parametrize("content", ["null", "[1]", DEEP, '{"reason": "hung", "within": "long"}', "{}"])
def test_a_damaged_record_of_a_crash_is_none(content: str, tmp_path: Path) -> None:
    crashes = Crashes(tmp_path, "auto", False, 5.0)
    crashes.note("seen", "hung", 9.0)
    (record,) = (path for path in tmp_path.rglob("*.json") if path.is_file())
    record.write_text(content)
    crashes.check("seen", "v.mp4")


def test_the_faults_of_entries_hold_no_stack(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": 1}\nso\n[\n')
    faults = [entry.fault for entry in read_entries(file, "benchmark.path") if entry.fault]
    assert [(fault.__traceback__, fault.__cause__, fault.__context__) for fault in faults] == [(None, None, None)] * 2


def test_a_matroska_file_that_ends_in_a_size_names_no_other_file(tmp_path: Path) -> None:
    for content in (b"\x18S\x80g\x08\0\0\0\xff\x10C\xa7p\x86'\x81\0\x1fC", b"\x18S\x80g\xff" + b"\xb6\xff" * 5000):
        path = tmp_path / "film.mkv"
        path.write_bytes(b"\x1aE\xdf\xa3\x84B\x86\x81\x01" + content)
        check_is_no_reference(path, path)


def test_a_time_line_is_one_however_long_its_settings_are() -> None:
    long = "x" * 100_000
    heard = srt_cues(f"1\n  00:00:01,000 --> 00:00:03,500 {long}\nhe says\n{long}:1 --> there\n")
    assert [(line.start, line.end, line.text) for line in heard.lines] == [(1.0, 3.5, f"he says {long}:1 --> there")]


def test_a_unit_of_av1_that_is_cut_within_its_header_is_for_the_decoder_to_judge() -> None:
    look = look_of("av1", b"")
    assert look is not None
    assert look(memoryview(b"\x02\x004")) == SHOWN
