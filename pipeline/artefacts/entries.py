"""JSON that other people wrote: read whole, checked entry by entry, every complaint with its place in the file."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import InputError

Kind = TypeVar("Kind")


def read_text(file: Path, override: str) -> str:
    """The text of a file; a byte order mark is no part of it.

    Args:
        file: where it is.
        override: the key that names the file, for the error.

    Raises:
        InputError: no such file, or it is not text.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"there is no file {file}", f"check the path: {override}=...") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}", f"it must be UTF-8 text: {override}=...") from error


def read_json(file: Path, override: str) -> Any:
    """One JSON value that takes up the whole file.

    Raises:
        InputError: no such file, or it is not JSON.
    """
    return _parsed(read_text(file, override), str(file), override)


def read_entries(file: Path, override: str) -> list[tuple[str, Any]]:
    """The entries of a JSON list or of JSON Lines, whichever it is, each with its place for errors.

    Raises:
        InputError: no such file, it is neither, or it holds no entry.
    """
    text = read_text(file, override)
    whole = _list(text)
    if whole is not None:
        entries = [(f"{file}: entry {number}", entry) for number, entry in enumerate(whole, start=1)]
    else:
        # Not splitlines: that also cuts at separators which JSON allows inside a string.
        lines = [(f"{file}:{number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        entries = [(where, _parsed(line, where, override)) for where, line in lines]
    if not entries:
        raise InputError(f"{file} is empty", f"it needs at least one entry: {override}=...")
    return entries


def checked(kind: type[Kind], value: Any, where: str) -> Kind:
    """``value`` as a dataclass of this kind; fields that the dataclass does not have are passed over.

    Raises:
        InputError: a field is missing or is of another type.
    """
    try:
        made: Kind = _adapter(cast("Any", kind)).validate_python(value)
        return made
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the entry"
        raise InputError(
            f"{where}: {field}: {first['msg']}", "check that the file is of the kind that was chosen, or mend the entry"
        ) from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once a kind: it takes longer than a row does."""
    return TypeAdapter(kind)


def _list(text: str) -> list[Any] | None:
    """The list that the whole text is, if it is one; a line of JSON Lines may be a list too."""
    if not text.lstrip().startswith("["):
        return None
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return whole if isinstance(whole, list) else None


def _parsed(text: str, where: str, override: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            f"fetch the file again, or name another: {override}=...",
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in thousands
        raise InputError(
            f"{where}: not JSON that can be read: {error}", f"mend it, or name another: {override}=..."
        ) from error
