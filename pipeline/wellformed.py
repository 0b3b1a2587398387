"""Makes text and JSON from elsewhere well-formed, so that they can be stored and printed.

JSON may hold half of a surrogate pair, such as D83D alone where a text was cut within an emoji. Python's own strings
hold such halves for bytes of a command line or a file name that are not UTF-8. No such text can be written as UTF-8.
So halves are replaced where text comes in, by U+FFFD, as decoders do.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError

_HALF = re.compile("[\ud800-\udfff]")
_RAW_BYTE = re.compile("[\udc80-\udcff]")
"""As Python's error handler surrogateescape decodes a byte that is not UTF-8; an escape in JSON is still an escape."""


def is_well_formed(text: str) -> bool:
    """Whether the text can be written as UTF-8."""
    return text.isascii() or _HALF.search(text) is None


def well_formed(text: str) -> str:
    """The text, with U+FFFD for each half of a surrogate pair."""
    return text if text.isascii() else _HALF.sub("\N{REPLACEMENT CHARACTER}", text)


def well_formed_json(value: Any) -> Any:
    """A JSON value with :func:`well_formed` texts and keys."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [well_formed_json(each) for each in value]
    if isinstance(value, dict):
        return {well_formed(str(key)): well_formed_json(each) for key, each in value.items()}
    return value


def dumped(kind: TypeAdapter[Any], value: Any) -> bytes:
    """The value as JSON, with U+FFFD for halves of surrogate pairs: a model's, a server's, those of a file's name."""
    try:
        return kind.dump_json(value)
    except PydanticSerializationError:
        whole = well_formed_json(kind.dump_python(value, mode="json"))
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def decoded(content: bytes, errors: Literal["strict", "surrogateescape"] = "strict") -> str:
    """The text of a file's bytes with line feeds alone: UTF-8, or UTF-16 with a byte order mark.

    Args:
        content: all bytes of the file.
        errors: whether a byte that is not UTF-8 is an error at once, or one where :func:`check_utf8` meets it, so that
            it costs one line of many.

    Raises:
        UnicodeDecodeError: it is not text.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16")
    else:
        text = content.decode("utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_utf8(text: str) -> None:
    """Look for what :func:`decoded` could not decode.

    Raises:
        ValueError: a byte is not UTF-8; the message says which and where.
    """
    raw = None if text.isascii() else _RAW_BYTE.search(text)
    if raw is not None:
        above, column = text.count("\n", 0, raw.start()), raw.start() - text.rfind("\n", 0, raw.start())
        place = f"line {above + 1}, column {column}" if "\n" in text.strip() else f"column {column}"
        raise ValueError(f"not UTF-8: the byte {ord(raw[0]) - 0xDC00:#x} at {place}")


def parsed(text: str, of_object: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """A JSON value as it stands, with halves of surrogate pairs as they are.

    Args:
        text: the value's text.
        of_object: what becomes of the keys and values of an object; None: a dict.

    Raises:
        ValueError: it cannot be read; the message says where and why.
    """
    check_utf8(text)
    try:
        return json.loads(text, object_pairs_hook=of_object or _object)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text.strip() else ""
        raise ValueError(f"not JSON: {error.msg} at {line}column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in thousands
        raise ValueError(f"not JSON that can be read: {error}") from error


def loaded(text: str | bytes) -> Any:
    """A JSON value as Python's json reads it: the last of a key that stands twice counts.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"not JSON that can be read: {error}") from error


def loaded_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object, likewise.

    Raises:
        ValueError: it cannot be read, or is another JSON value.
    """
    found = loaded(text)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def loaded_yaml(text: str) -> Any:
    """A YAML value of plain types.

    Raises:
        ValueError: it cannot be read.
    """
    import yaml

    # Python's own loader takes the square of the time where brackets lie within each other.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, loader)
    except Exception as error:  # a text that does not fit its tag, such as the date 2026-13-45, raises anything
        raise ValueError(f"not YAML that can be read: {error}") from error


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        for key, value in pairs:
            if made[key] != value:
                raise ValueError(f"the key {key!r} stands twice with different values")
    return made
