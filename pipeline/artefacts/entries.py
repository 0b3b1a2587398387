"""Reads files that other people wrote, entry by entry; every error names its place in the file.

JSON lists, JSON Lines, folders of JSON files and parquet have the same entries here. Where entries are independent of
each other, one that cannot be parsed costs that entry alone: it carries its fault, and the caller decides what to do
with it.

Two things are read differently from Python's ``json``: half of a surrogate pair becomes U+FFFD, and a key that occurs
twice in an object with different values is an error. ``NaN`` and ``Infinity`` are
read as numbers, as other projects' Python writes them; a field that must be finite says so where it is checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import InputError, MissingExtraError
from pipeline.wellformed import decoded, parsed, well_formed_json

Kind = TypeVar("Kind")

_PARQUET = b"PAR1"
_MOST_NAMES = 20
"""Fields of an entry that a message lists."""
_LONGEST_NAME = 40
"""Characters of a field's name in a message."""


@dataclass(frozen=True)
class Entry:
    """One entry of a file."""

    where: str
    """File and place, for errors: ``rows.jsonl:3``."""
    name: str
    """The place without the file: ``line 3``."""
    read: Any = None
    fault: InputError | None = None
    """Why it could not be parsed."""

    @property
    def value(self) -> Any:
        """The content of the entry, as JSON values.

        Raises:
            InputError: it could not be parsed.
        """
        if self.fault is not None:
            raise self.fault
        return self.read

    def as_kind(self, kind: type[Kind]) -> Kind:
        """The value as a dataclass; fields that the dataclass does not have are ignored.

        Raises:
            InputError: it could not be parsed, or a field is missing or is of another type.
        """
        return checked(kind, self.value, self.where)


def read_text(file: Path, override: str, errors: Literal["strict", "surrogateescape"] = "strict") -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark, with line feeds only.

    Args:
        file: its path.
        override: the key that names the file, for the error.
        errors: ``surrogateescape`` for JSON, whose parser then names the place of a byte that is not UTF-8.

    Raises:
        InputError: no such file, or it is not text.
    """
    try:
        return decoded(file.read_bytes(), errors)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {file}", f"check the path: {override}=...") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}", f"it must be UTF-8 text: {override}=...") from error


def read_json(file: Path, override: str) -> Any:
    """The JSON value that a file consists of.

    Raises:
        InputError: no such file, or it is not JSON.
    """
    return _value(read_text(file, override, "surrogateescape"), str(file), override)


def read_entries(file: Path, override: str) -> list[Entry]:
    """The entries of a file: a JSON list, JSON Lines, a single JSON object, parquet, or a folder of JSON files.

    Lines and files that cannot be parsed carry their fault.

    Raises:
        InputError: no such file, it is none of these, it holds no entry, or none that can be parsed.
        MissingExtraError: it is parquet, and pyarrow is not installed.
    """
    if file.is_dir():
        entries = [_file(each, override) for each in sorted(file.glob("*.json"))]
    elif _is_parquet(file):
        entries = _parquet(file, override)
    else:
        entries = _entries(read_text(file, override, "surrogateescape"), file, override)
    if not entries:
        raise InputError(f"{file} is empty", f"it needs at least one entry: {override}=...")
    faults = [entry.fault for entry in entries if entry.fault]
    if len(faults) == len(entries):
        raise faults[0]
    return entries


def checked(kind: type[Kind], value: Any, where: str) -> Kind:
    """``value`` as a dataclass of this kind; fields that the dataclass does not have are ignored.

    Raises:
        InputError: a field is missing or is of another type.
    """
    try:
        made: Kind = _adapter(cast("Any", kind)).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        problem = first["msg"]
        if first["type"] == "missing" and len(first["loc"]) == 1 and isinstance(value, dict):
            problem = f"{problem}; the entry has {_names(value)}"
        raise _mistaken(where, first["loc"], problem) from error
    place = next(_booleans_for_numbers(value, made), None)
    if place is not None:
        raise _mistaken(where, place, "a truth value is not a number")
    return made


def _names(value: dict[Any, Any]) -> str:
    """The names of an entry's fields, as many as go into a message."""
    shown = [repr(str(name)[:_LONGEST_NAME]) for name in list(value)[:_MOST_NAMES]]
    return ", ".join([*shown, *(["..."] if len(value) > len(shown) else [])]) or "none"


def _mistaken(where: str, place: Sequence[str | int], problem: str) -> InputError:
    field = ".".join(map(str, place)) or "the entry"
    return InputError(
        f"{where}: {field}: {problem}", "check that the file is of the kind that was chosen, or correct the entry"
    )


def _booleans_for_numbers(value: Any, made: Any) -> Iterator[tuple[str | int, ...]]:
    """The places where a truth value became a number: pydantic takes True and False for 1 and 0."""
    if isinstance(value, bool):
        if not isinstance(made, bool):
            yield ()
        return
    places: Iterable[tuple[str | int, Any, Any]] = ()
    if isinstance(value, dict):
        fields = made if isinstance(made, dict) else getattr(made, "__dict__", {})
        places = ((name, value[name], fields[name]) for name in value.keys() & fields.keys())
    elif isinstance(value, list) and isinstance(made, list | tuple):
        places = ((number, *both) for number, both in enumerate(zip(value, made, strict=False)))
    for name, one, other in places:
        if isinstance(one, bool | dict | list):
            yield from ((name, *place) for place in _booleans_for_numbers(one, other))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once per kind, since making it takes longer than validating a row."""
    return TypeAdapter(kind)


def _value(text: str, where: str, override: str) -> Any:
    try:
        value = parsed(text)
        # Only an escape can bring half of a pair into text that was decoded.
        return well_formed_json(value) if "\\ud" in text.lower() else value
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {error}", f"correct it, or fetch the file again: {override}=...") from error


def _entries(text: str, file: Path, override: str) -> list[Entry]:
    # Not splitlines: that also cuts at separators which JSON allows inside a string.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    is_list = text.lstrip().startswith("[")
    # In JSON Lines the first line is a value by itself; a list may be the only line.
    if lines and ((is_list and len(lines) == 1) or not _is_json(lines[0][1])):
        if is_list:
            whole = enumerate(_value(text, str(file), override), start=1)
            return [Entry(f"{file}: entry {number}", f"entry {number}", value) for number, value in whole]
        if _is_json(text):
            return [Entry(str(file), "entry 1", _value(text, str(file), override))]
    return [_parsed_entry(line, f"{file}:{number}", f"line {number}", override) for number, line in lines]


def _is_json(text: str) -> bool:
    try:
        parsed(text)
    except ValueError:
        return False
    return True


def _parsed_entry(text: str, where: str, name: str, override: str) -> Entry:
    try:
        return Entry(where, name, _value(text, where, override))
    except InputError as error:
        return Entry(where, name, fault=error.kept())


def _file(file: Path, override: str) -> Entry:
    try:
        return _parsed_entry(read_text(file, override, "surrogateescape"), str(file), file.stem, override)
    except InputError as error:
        return Entry(str(file), file.stem, fault=error.kept())


def _is_parquet(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_PARQUET)) == _PARQUET or file.suffix == ".parquet"
    except OSError:
        return False  # reading the file reports it


def _parquet(file: Path, override: str) -> list[Entry]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(
            f"{file} is parquet, and pyarrow, which reads it, is not installed", "pip install 'gens-videoqa[parquet]'"
        ) from error
    try:
        with file.open("rb") as opened:  # pyarrow takes no path that is not UTF-8
            rows = pq.read_table(opened).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(
            f"{file} cannot be read as parquet: {error}", f"fetch the file again, or name another: {override}=..."
        ) from error
    return [
        Entry(f"{file}: row {number}", f"row {number}", {key: _cell(value) for key, value in row.items()})
        for number, row in enumerate(rows, start=1)
    ]


def _cell(value: Any) -> Any:
    """The value, or None for NaN, which pandas writes for what is missing in a column of numbers."""
    return None if isinstance(value, float) and math.isnan(value) else value
