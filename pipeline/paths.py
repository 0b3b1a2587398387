"""Converts between paths as they are written in settings and rows, and paths on this machine.

A row is UTF-8 text, and a file name on Linux is any bytes. A path that is not UTF-8 is therefore held as a ``file:``
URI, ``file:///data/caf%E9.mp4``, which can be stored, printed and typed. All other paths are held as they are.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote_to_bytes

from pipeline.errors import ConfigError, InputError
from pipeline.wellformed import is_well_formed, well_formed

_URI = "file:///"


def local_path(written: str | int | os.PathLike[str]) -> Path:
    """The path on this machine that a written path names.

    ``~`` and ``~/...`` start in the home folder. Any other name that starts with a tilde is taken literally:
    ``~draft.mp4`` is a file.
    ``file:///...`` is decoded. A folder ``2024`` arrives as a number where it is typed on the command line.

    Raises:
        ConfigError: it is neither text nor a whole number.
        InputError: it contains a NUL, which no file name can have.
    """
    if not isinstance(written, str | int | os.PathLike) or isinstance(written, bool):
        raise ConfigError(f"{written} is not a path", "give one path as text, in quotes: 'KEY=\"...\"'")
    text = str(written) if isinstance(written, int) else os.fspath(written)
    if text.startswith(_URI):
        text = os.fsdecode(unquote_to_bytes(text[len(_URI) - 1 :]))
    if "\0" in text:
        raise InputError(f"{text!r} is not the path of a file", "write the path without the NUL in it")
    if text == "~" or text.startswith("~/"):
        return Path(os.path.expanduser(text))
    return Path(text)


def path_text(path: str | os.PathLike[str]) -> str:
    """The path as UTF-8 text, from which :func:`local_path` makes the same path again.

    A relative path that is not UTF-8 becomes an absolute one, since a URI cannot be relative. Half a surrogate pair
    that stands for no byte, which no file's name can hold, becomes U+FFFD.
    """
    text = os.fspath(path)
    if is_well_formed(text):
        return text
    try:
        return Path(text).absolute().as_uri()
    except UnicodeEncodeError:
        return well_formed(text)


def nearest_path(path: Path) -> Path | None:
    """For a path that does not exist, one that does and differs in the name that is missing; None if none is alike."""
    there = path.absolute()
    missing: list[str] = []
    while not os.path.lexists(there):
        missing.insert(0, there.name)
        there = there.parent
    try:
        names = [name for name in os.listdir(there) if not name.startswith(".")]
    except OSError:
        return None
    for close in get_close_matches(missing[0], names, n=3, cutoff=0.6) if missing else ():
        found = there.joinpath(close, *missing[1:])
        if os.path.lexists(found):
            return shown(found)
    return None


def shown(path: Path) -> Path:
    """A path as it is printed: from the working folder on where it lies inside of it, else as it is."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
