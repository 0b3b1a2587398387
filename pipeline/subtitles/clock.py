"""Clock times and text, as all subtitle formats have them."""

from __future__ import annotations

import re

STAMP = r"-?(?:\d{1,6}:)?\d{1,2}:\d{1,2}(?:\s?[.,]\s?\d{1,9})?"
"""A clock time, as a pattern without groups."""
_STAMP = re.compile(r"(-?)(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:\s?[.,]\s?(\d{1,9}))?")


def seconds(stamp: str, where: str) -> float:
    """The seconds of ``HH:MM:SS.mmm``; SRT writes a comma for the point, and WebVTT may leave out the hours.

    Raises:
        ValueError: it is not a time; the message begins with ``where``.
    """
    found = _STAMP.fullmatch(stamp.strip())
    if found is None:
        raise ValueError(f"{where}: {stamp.strip()!r} is not a time; write it as 00:01:02.500")
    sign, hours, minutes, whole, fraction = found.groups()
    total = int(hours or 0) * 3600 + int(minutes) * 60 + float(f"{whole}.{fraction or 0}")
    return -total if sign else total


def one_line(text: str) -> str:
    """The words with single spaces between them."""
    return " ".join(text.split())
