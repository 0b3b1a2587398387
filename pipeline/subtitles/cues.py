"""SubRip (``.srt``, which Video-MME has) and WebVTT (``.vtt``, https://www.w3.org/TR/webvtt1/): cues under time lines.

Markup such as ``<font color="white" size=".72c">`` is taken off, and the lines of a cue become one. Cues may overlap. A
time line that cannot be read is a fault and not passed over: its words would be missing without anybody's knowledge.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pipeline.domain import SubtitleLine
from pipeline.subtitles.clock import one_line, seconds

_ARROW = "-->"
# Tags of the two forms, with attributes or without; "a < b" and "<3" are words.
_MARKUP = re.compile(
    r"</?(?:font|lang|ruby|rt|[biuscv])(?:[\s.][^<>]*)?>|<\d[\d:]*[.,]\d+>|\{\\[^{}]*\}", re.IGNORECASE
)
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")


def srt_cues(text: str) -> list[SubtitleLine]:
    """The cues of a SubRip file: a number, ``00:00:01,000 --> 00:00:04,000``, and text up to the next cue.

    Files exist without numbers, without the empty lines between cues, and with empty lines inside of them; all are
    read.

    Raises:
        ValueError: a time line cannot be read, or text stands before the first; the message names the line.
    """
    lines = text.split("\n")
    heads = [place for place, line in enumerate(lines) if _ARROW in line]
    stray = [place for place in range(heads[0] if heads else len(lines)) if lines[place].strip()]
    numbered = bool(stray) and stray == [heads[0] - 1] if heads else False
    if stray and not (numbered and lines[stray[0]].strip().isdigit()):
        raise ValueError(f"line {stray[0] + 1}: {lines[stray[0]].strip()[:60]!r} stands under no time line")
    return [
        _cue(lines[head], lines[head + 1 : end - 1 if numbered and end < len(lines) else end], head + 1)
        for head, end in pairwise([*heads, len(lines)])
    ]


def webvtt_cues(text: str) -> list[SubtitleLine]:
    """The cues of a WebVTT file: blocks of a name or none, ``01:02.500 --> 01:04.000`` with settings, and text.

    Raises:
        ValueError: it does not begin with WEBVTT, or a block is no cue; the message names the line.
    """
    if not re.match(r"WEBVTT(?:\s|$)", text):
        raise ValueError("line 1: a WebVTT file begins with WEBVTT")
    return [
        _cue(block[head], [html.unescape(line) for line in block[head + 1 :]], number + head)
        for number, block in _blocks(text)
        if not block[0].startswith("WEBVTT") and not _NO_CUE.match(block[0])
        for head in [0 if _ARROW in block[0] or len(block) == 1 else 1]
    ]


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Lines between empty ones, with the number of the first."""
    held: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line.strip():
            held.append(line)
        elif held:
            yield number - len(held), held
            held = []


def _cue(times: str, words: Sequence[str], number: int) -> SubtitleLine:
    where = f"line {number}"
    start, arrow, end = times.partition(_ARROW)
    if not arrow or not end.strip():
        raise ValueError(f"{where}: {times.strip()[:60]!r} is no time line; write it as 00:00:01,000 --> 00:00:04,000")
    begin, stop = seconds(start, where), seconds(end.split()[0], where)
    if stop < begin:
        raise ValueError(f"{where}: the cue ends at {stop:g} s, before it begins at {begin:g} s")
    return SubtitleLine(begin, stop, one_line(_MARKUP.sub("", " ".join(words))))
