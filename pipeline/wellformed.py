"""Text that can be stored and printed.

JSON may hold half of a surrogate pair, such as D83D alone where a text was cut within an emoji. Python's own strings
hold such halves for bytes of a command line or a file name that are not UTF-8. No such text can be written as UTF-8.
So halves are replaced where text comes in, by U+FFFD, as decoders do.
"""

from __future__ import annotations

import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")


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
