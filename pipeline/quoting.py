"""Quotes words for Hydra's grammar and for shells."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping

from pipeline.wellformed import loaded, loaded_yaml

_PAIRS = {")": "(", "]": "[", "}": "{"}
_NEEDS_QUOTES = re.compile(r"[^\[\]{},:]*(?:[^\x00-\x7f\[\]{},:]|~)[^\[\]{},:]*")


def quoted(text: str) -> str:
    """Any text as a quoted string of Hydra's grammar."""
    # Hydra takes a backslash as it is, except before a quote; OmegaConf takes ${ for an interpolation, and backslashes
    # before that in pairs.
    escaped = re.sub(r"(\\*)'", r"\1\1\'", re.sub(r"(\\*)\$\{", r"\1\1\\${", text))
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def is_quoted(value: str) -> bool:
    """Whether Hydra reads the whole ``value`` as one quoted string."""
    return re.fullmatch(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", value, re.DOTALL) is not None


def is_list(value: str) -> bool:
    """Whether the value is enclosed in brackets."""
    return value.strip().startswith("[") and value.strip().endswith("]")


def items(value: str) -> list[str]:
    """The items of a list as people write it: ``[x = 2, "y, z", it's (a, b)]`` has three.

    Commas inside quotation marks or balanced brackets do not separate items.
    """
    value = value.strip()
    try:
        listed = loaded(value)
    except ValueError:
        listed = None
    if isinstance(listed, list) and all(isinstance(item, str) for item in listed):
        return listed
    inner = value[1:-1] if is_list(value) else value
    found = list(_parted(inner))
    return found[:-1] if found[-1] == "" else found


def quoted_list(value: str) -> str:
    """The list as a list of quoted strings in Hydra's grammar."""
    return f"[{','.join(map(quoted, items(value)))}]"


def quoted_override(word: str) -> str:
    """``KEY=VALUE`` with all strings in the value quoted."""
    key, _, value = word.partition("=")
    if is_list(value):
        return f"{key}={quoted_list(value)}"
    if value.lstrip().startswith("{"):
        try:
            content = loaded_yaml(value)
        except ValueError:
            content = None
        if isinstance(content, dict):
            return f"{key}={literal(content)}"
    return f"{key}={quoted(value)}"


def readable(word: str, *, sweep: bool) -> str:
    """``KEY=VALUE`` with non-ASCII words and ``~/folder`` quoted, which Hydra's grammar does not take otherwise.

    In a ``sweep``, commas separate values. An option such as ``--config-dir=été`` is none of Hydra's grammar.
    """
    key, equals, value = word.partition("=")
    needed = not value.isascii() or ("~" in value and "${" not in value)
    if not needed or key.startswith("-") or "'" in value or '"' in value:
        return word
    if sweep or value.lstrip()[:1] in ("[", "{"):
        value = _NEEDS_QUOTES.sub(lambda run: _within_spaces(run[0]), value)
    else:
        value = quoted(value)
    return f"{key}{equals}{value}"


def for_shell(word: str) -> str:
    """The word quoted for a shell, with double quotation marks where that is easier to read."""
    if re.search(r'["$`\\!]', word):
        return shlex.quote(word)
    return word if shlex.quote(word) == word else f'"{word}"'


def _within_spaces(run: str) -> str:
    stripped = run.strip()
    return run.replace(stripped, quoted(stripped), 1)


def literal(content: object) -> str:
    """A value of Python as a value of Hydra's grammar. What is neither JSON nor a collection of it becomes text."""
    if isinstance(content, Mapping):
        return "{" + ",".join(f"{name}: {literal(value)}" for name, value in content.items()) + "}"
    if isinstance(content, list | tuple):
        return "[" + ",".join(map(literal, content)) + "]"
    if content is None or isinstance(content, bool | int | float):
        return json.dumps(content)
    return quoted(str(content))


def _parted(text: str) -> Iterator[str]:
    nested = _is_balanced(text)
    place = 0
    while True:
        place += len(text[place:]) - len(text[place:].lstrip())
        closed = _closing(text, place)
        if closed is not None:
            yield re.sub(r"""\\(['"\\])""", r"\1", text[place + 1 : closed])
            end = text.find(",", closed)
        else:
            end = _comma(text, place, nested)
            yield text[place : end if end >= 0 else len(text)].strip()
        if end < 0:
            return
        place = end + 1


def _closing(text: str, start: int) -> int | None:
    """Where the quotation that begins an item ends; None unless a comma or the end of the text follows."""
    if text[start : start + 1] not in ("'", '"'):
        return None
    place = start + 1
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == text[start]:
            if re.match(r"\s*(?:,|$)", text[place + 1 :]):
                return place
            # One inside: an apostrophe, or the item only begins with something quoted.
            if text[start] == '"' or not (text[place - 1].isalnum() and text[place + 1].isalnum()):
                return None
        place += 1
    return None


def _comma(text: str, start: int, nested: bool) -> int:
    depth = 0
    for place in range(start, len(text)):
        if nested and text[place] in _PAIRS.values():
            depth += 1
        elif nested and text[place] in _PAIRS:
            depth -= 1
        elif text[place] == "," and depth == 0:
            return place
    return -1


def _is_balanced(text: str) -> bool:
    open_ones: list[str] = []
    for letter in text:
        if letter in _PAIRS.values():
            open_ones.append(letter)
        elif letter in _PAIRS and (not open_ones or open_ones.pop() != _PAIRS[letter]):
            return False
    return not open_ones
