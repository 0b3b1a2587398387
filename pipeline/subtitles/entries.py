"""The two JSON forms of LongVideoBench (arXiv 2407.15754; ``longvideobench_dataset.py`` of its repository).

A list of ``{"start": "HH:MM:SS.mmm", "end": "HH:MM:SS.mmm", "line": "..."}`` or of ``{"timestamp": [start, end],
"text": "..."}`` in seconds, whose end may be null: the line then stays to the video's end. Entries without text or
times are left out, and their number is reported.

The benchmark's code counts a line shorter than a second as on screen for one second around its middle when it looks
for the lines that go with frames. So these lines last a second at least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.domain import LONGEST, SubtitleLine
from pipeline.subtitles.clock import one_line, seconds
from pipeline.subtitles.file import SubtitleFile
from pipeline.wellformed import parsed, well_formed_json

LEAST = 1.0
"""Shortest time in seconds that a line is on screen."""


def json_lines(text: str, video_end: float) -> SubtitleFile:
    """The lines on the file's clock.

    Args:
        text: the file.
        video_end: second on the file's clock at which the video ends.

    Raises:
        ValueError: it is not such a list.
    """
    try:
        entries = well_formed_json(parsed(text))
    except RecursionError as error:
        raise ValueError(f"not JSON that can be read: {error}") from error
    if not isinstance(entries, list):
        raise ValueError("it is not a JSON list of lines")
    lines, faults = [], []
    for number, entry in enumerate(entries, start=1):
        try:
            lines.append(_line(entry, f"entry {number}", video_end))
        except ValueError as error:
            faults.append(str(error))
    return SubtitleFile(tuple(lines), tuple(faults))


def _line(entry: Any, where: str, video_end: float) -> SubtitleLine:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} is not an object: {repr(entry)[:60]}")
    if "timestamp" in entry:
        stamps, text = entry["timestamp"], entry.get("text")
        if not isinstance(stamps, list) or len(stamps) != 2:
            raise ValueError(f"{where}: timestamp={stamps!r} is not [start, end]")
        start, end = _number(stamps[0], where), video_end if stamps[1] is None else _number(stamps[1], where)
        end = max(start, end) if stamps[1] is None else end  # a line that begins after the video's end
    else:
        text = entry.get("line")
        start, end = _stamp(entry.get("start"), where), _stamp(entry.get("end"), where)
    if not isinstance(text, str):
        raise ValueError(f"{where} has no text")
    if end - start < LEAST:  # also where they are the wrong way round, as in the benchmark's code
        middle = (start + end) / 2
        start, end = middle - LEAST / 2, middle + LEAST / 2
    return SubtitleLine(start, end, one_line(text))


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= LONGEST:  # nor NaN
        raise ValueError(f"{where}: {value!r} is not a number of seconds")
    return number


def _stamp(value: Any, where: str) -> float:
    if isinstance(value, int | float):
        return _number(value, where)
    if not isinstance(value, str):
        raise ValueError(f"{where} has neither start and end nor a timestamp")
    return seconds(value, where)
