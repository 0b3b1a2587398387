"""Other people's files, in every form and with every damage."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefacts.entries import Entry, checked, read_entries, read_json, read_text
from pipeline.errors import InputError
from pipeline.wellformed import parsed


@dataclass(frozen=True)
class Row:
    id: str | int


def entries(path: Path, content: str | bytes) -> list[Entry]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_entries(path, "some.path")


def values(path: Path, content: str | bytes) -> list[Any]:
    return [entry.value for entry in entries(path, content)]


@pytest.mark.parametrize(
    "content",
    [
        '[{"id": 1}, {"id": 2}]',
        '[\n  {"id": 1},\n  {"id": 2}\n]\n',
        '{"id": 1}\n{"id": 2}\n',
        '{"id": 1}\r\n\r\n{"id": 2}',
        '\ufeff{"id": 1}\n{"id": 2}\n',
        '{"id": 1}\n{"id": 2}\n'.encode("utf-16"),
        '[{"id": 1},\r{"id": 2}]\r',
    ],
    ids=["list", "list over lines", "lines", "CRLF", "BOM", "UTF-16", "CR"],
)
def test_every_form_has_the_same_entries(content: str | bytes, tmp_path: Path) -> None:
    assert values(tmp_path / "rows.json", content) == [{"id": 1}, {"id": 2}]


def test_lines_may_be_lists_and_one_object_may_take_many_lines(tmp_path: Path) -> None:
    assert values(tmp_path / "rows.jsonl", "[1, 2]\n[3]\n") == [[1, 2], [3]]
    assert values(tmp_path / "row.json", '{\n "id": 1,\n "frames": [\n  0\n ]\n}\n') == [{"id": 1, "frames": [0]}]
    assert values(tmp_path / "row.json", '{"id": 1,\n "frames": [0]}') == [{"id": 1, "frames": [0]}]


def test_a_line_that_cannot_be_parsed_costs_that_line(tmp_path: Path) -> None:
    good, cut, twice, deep, long = entries(
        tmp_path / "rows.jsonl",
        '{"id": 1}\n{"id": \n{"id": 1, "id": 2}\n' + "[" * 100_000 + "\n" + "9" * 5000 + "\n",
    )
    assert good.as_kind(Row) == Row(1)
    for entry, problem in (
        (cut, "rows.jsonl:2: not JSON: Expecting value at column 8"),
        (twice, "rows.jsonl:3: not JSON that can be read: the key 'id' stands twice"),
        (deep, "rows.jsonl:4: not JSON that can be read"),
        (long, "rows.jsonl:5: not JSON that can be read"),
    ):
        with pytest.raises(InputError) as raised:
            _ = entry.value
        assert problem in raised.value.problem
        assert "some.path=" in raised.value.remedy
    assert (cut.name, good.where) == ("line 2", f"{tmp_path / 'rows.jsonl'}:1")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("[]", "is empty"),
        ('{"id": ', "rows.json:1: not JSON"),
        ('[{"id": 1},\n{"id": \n', "not JSON: Expecting value at line 3"),
        (b"\xff\x00\xff", "rows.json:1: not UTF-8: the byte 0xff at column 1"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8x", "cannot be read"),
        ('[\n"caf\xe9"]'.encode("latin-1"), "not UTF-8: the byte 0xe9 at line 2, column 5"),
        (b"PAR1 and no more", "cannot be read as parquet"),
    ],
)
def test_a_file_without_any_entry_is_refused(content: str | bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        entries(tmp_path / "rows.json", content)
    assert str(tmp_path / "rows.json") in raised.value.problem
    assert problem in raised.value.problem


def test_a_folder_has_an_entry_a_file(tmp_path: Path) -> None:
    for name, content in {"b": '{"id": 2}', "a": '{\n"id": 1\n}', "c": "{"}.items():
        (tmp_path / f"{name}.json").write_text(content)
    first, second, third = read_entries(tmp_path, "some.path")
    assert [(entry.name, entry.value) for entry in (first, second)] == [("a", {"id": 1}), ("b", {"id": 2})]
    assert third.fault is not None
    assert f"{tmp_path / 'c.json'}: not JSON" in third.fault.problem


def test_parquet_is_known_by_its_first_bytes_and_missing_numbers_are_none(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"id": ["a", "b"], "right": pa.array([1.0, math.nan]), "list": [[1], None]})
    pq.write_table(table, tmp_path / "rows.json")
    first, second = read_entries(tmp_path / "rows.json", "some.path")
    assert first.value == {"id": "a", "right": 1.0, "list": [1]}
    assert second.value == {"id": "b", "right": None, "list": None}
    assert second.where == f"{tmp_path / 'rows.json'}: row 2"


def test_half_a_character_is_replaced_in_keys_and_values_and_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    text = json.dumps([{"\ud83d": ["a\ude00", {"b": "\ud83d\ude00"}]}])
    assert values(tmp_path / "rows.json", text) == [{"\ufffd": ["a\ufffd", {"b": "\U0001f600"}]}]
    assert parsed('"caf\\udce9.mp4"') == "caf\udce9.mp4"


def test_equal_values_of_a_key_that_stands_twice_are_one(tmp_path: Path) -> None:
    assert parsed('{"a": 1, "a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="the key 'a' stands twice"):
        parsed('[{"b": {"a": 1, "a": [1]}}]')


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    for read in (read_text, read_json, read_entries):
        with pytest.raises(InputError, match="there is no file"):
            read(tmp_path / "none.json", "some.path")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"id": True}, "id"),
        ({"frames": [0, False]}, "frames.1"),
        ({"parts": [[1], [True]]}, "parts.1.0"),
        ({"scores": {"a": True}}, "scores.a"),
    ],
)
def test_a_truth_value_is_not_a_number(change: dict[str, Any], place: str) -> None:
    @dataclass(frozen=True)
    class Numbers:
        id: int
        frames: list[int | str] = field(default_factory=list)
        parts: tuple[list[float], ...] = ()
        scores: Mapping[str, float] = field(default_factory=dict)
        sure: bool = False
        other: Any = None

    good = {"id": 1, "frames": [0, "a"], "parts": [[1], [2]], "scores": {"a": 1}, "sure": True, "other": [True]}
    assert checked(Numbers, good, "here").sure
    with pytest.raises(InputError, match=rf"here: {place}: a truth value is not a number"):
        checked(Numbers, {**good, **change}, "here")


def test_a_line_in_another_encoding_costs_that_line(tmp_path: Path) -> None:
    good = '{"id": "caf\xe9"}\n'
    first, second, third = entries(
        tmp_path / "rows.jsonl", good.encode() + good.encode("latin-1") + b'{"id": "\\udce9"}\n'
    )
    assert (first.value, third.value) == ({"id": "caf\xe9"}, {"id": "\ufffd"})
    assert second.fault is not None
    assert second.fault.problem.endswith("rows.jsonl:2: not UTF-8: the byte 0xe9 at column 12")
