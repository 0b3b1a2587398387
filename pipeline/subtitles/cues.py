"""SubRip (``.srt``, which Video-MME has) and WebVTT (``.vtt``, https://www.w3.org/TR/webvtt1/): cues under time lines.

Markup such as ``<font color="white" size=".72c">`` is removed, and the lines of a cue are joined. Cues may overlap. A
cue whose time line cannot be read is left out with its text; the others are kept, and the number of cues left out is
reported.

Automatic captions of YouTube, as yt-dlp stores them, roll up: a phrase appears word by word (``today<00:00:02.760><c>
we</c>``), is alone on screen for 10 ms, and then is the upper line while the next phrase appears. It becomes one line,
from its first word until the next phrase begins.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.domain import SubtitleLine
from pipeline.subtitles.clock import STAMP, one_line, seconds
from pipeline.subtitles.file import SubtitleFile
from pipeline.wellformed import check_utf8

# Tags of the two formats, with attributes or without; "a < b", "<3" and "<image>" are text.
_MARKUP = re.compile(
    r"</?(?:font|lang|ruby|rt|[biuscv])(?:[\s.][^<>]*)?>|<\d[\d:]*[.,]\d+>|\{\\[^{}]*\}", re.IGNORECASE
)
_WORD_TIME = re.compile(r"<\d[\d:]*[.,]\d+>")
# Spaces and line feeds of Advanced SubStation, which converters leave in; "C:\home" is a path.
_ESCAPES = re.compile(r"(?<![:\\])\\[hN]")
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
_ARROW = "(?:-{1,3}>|--&gt;|[–—→]>?)"  # noqa: RUF001
# Matches damaged time lines too, so that the text under them does not become part of the cue before. A line counts if
# it starts with a time that has a fraction, or with something like a time and an arrow: "look --> there" is text.
_HEAD = re.compile(
    rf"\s*(?:-?(?:\d{{1,6}}:)?\d{{1,2}}:\d{{1,2}}\s?[.,]\d{{1,9}}(?:\s|$)|\S*\d[:;.,]\S*\s*-->"
    rf"|{STAMP}\s*{_ARROW}\s*{STAMP}|\S*\s*-->\s*{STAMP})"
)
_TIMES = re.compile(rf"\s*(?P<start>{STAMP})\s*{_ARROW}\s*(?P<end>{STAMP})(?P<settings>\s.*)?", re.DOTALL)
_NUMBER = re.compile("[0-9]+")
_LONGEST_HEAD = 500
"""Characters among which a line shows that it has times: to search a whole line takes the square of its length."""
_LONGEST_CARRIED = 50
"""Lines that captions which roll up repeat at most."""


@dataclass(frozen=True)
class _Cue:
    start: float
    end: float
    lines: tuple[str, ...]
    """Lines without markup; no empty ones."""
    has_word_times: bool


def srt_cues(text: str) -> SubtitleFile:
    """The cues of a SubRip file: a number, ``00:00:01,000 --> 00:00:04,000``, and text up to the next cue.

    Files without numbers, without empty lines between cues, and with empty lines inside cues are read, too.
    """
    lines = text.split("\n")
    heads = [place for place, line in enumerate(lines) if _is_head(line)]
    stray = [place for place in range(heads[0] if heads else len(lines)) if lines[place].strip()]
    numbered = bool(heads) and bool(stray) and stray[-1] == heads[0] - 1 and _is_number(lines[stray[-1]])
    skipped = [_stray(lines[place], place + 1) for place in (stray[:-1] if numbered else stray)]
    blocks = []
    for head, end in pairwise([*heads, len(lines)]):
        words = lines[head + 1 : end]
        if numbered and end < len(lines) and words and _is_number(words[-1]):
            words = words[:-1]
        blocks.append((head + 1, lines[head], words))
    return _file_of(blocks, skipped, str)


def webvtt_cues(text: str) -> SubtitleFile:
    """The cues of a WebVTT file: an optional name, ``01:02.500 --> 01:04.000`` with optional settings, and text.

    An empty line ends a cue; a line of blanks does not.

    Raises:
        ValueError: it does not begin with WEBVTT.
    """
    if not re.match(r"\s*WEBVTT(?:\s|$)", text):
        raise ValueError("line 1: a WebVTT file begins with WEBVTT")
    blocks, skipped = [], []
    for number, block in _blocks(text):
        heads = [place for place, line in enumerate(block) if _is_head(line)]
        if not heads and not block[0].lstrip().startswith("WEBVTT") and not _NO_CUE.match(block[0]):
            skipped.append(_stray(block[0], number))
        if not _NO_CUE.match(block[0]):
            for head, end in pairwise([*heads, len(block)]):
                has_number = end < len(block) and end > head + 1 and _is_number(block[end - 1])
                blocks.append((number + head, block[head], block[head + 1 : end - 1 if has_number else end]))
    return _file_of(blocks, skipped, html.unescape)


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Blocks of lines between empty lines, with the number of the first line."""
    held: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line:
            held.append(line)
        elif held:
            yield number - len(held), held
            held = []


def _file_of(
    blocks: Sequence[tuple[int, str, Sequence[str]]], skipped: Sequence[str], unescaped: Callable[[str], str]
) -> SubtitleFile:
    """The cues of ``blocks``: number of the time line, the time line, and the lines of text under it."""
    cues: list[_Cue] = []
    faults = list(skipped)
    for number, head, words in blocks:
        try:
            cues.append(_cue(head, words, number, unescaped))
        except ValueError as error:
            faults.append(str(error))
    return SubtitleFile(tuple(_rolled_out(cues) if _roll_up(cues) else map(_line, cues)), tuple(faults))


def _cue(head: str, words: Sequence[str], number: int, unescaped: Callable[[str], str]) -> _Cue:
    where = f"line {number}"
    for below, line in enumerate((head, *words)):
        try:
            check_utf8(line)
        except ValueError as error:
            raise ValueError(f"line {number + below}: {error}") from error
    times = _TIMES.fullmatch(head)
    if times is None:
        raise ValueError(
            f"{where}: {head.strip()[:60]!r} is not a time line; write it as 00:00:01,000 --> 00:00:04,000"
        )
    start, end = seconds(times["start"], where), seconds(times["end"], where)
    if end < start:
        raise ValueError(f"{where}: the cue ends at {end:g} s, before it begins at {start:g} s")
    cleaned = (one_line(unescaped(_ESCAPES.sub(" ", _MARKUP.sub("", line)))) for line in words)
    return _Cue(start, end, tuple(line for line in cleaned if line), any(map(_WORD_TIME.search, words)))


def _line(cue: _Cue) -> SubtitleLine:
    return SubtitleLine(cue.start, cue.end, " ".join(cue.lines))


_ROLLING = 0.1
"""Longest pause in seconds between two cues of captions that roll up."""


def _roll_up(cues: Sequence[_Cue]) -> bool:
    """Whether the captions roll up: words have their own times, or most cues repeat lines of the cue before."""
    carried = sum(_carried(one, other) > 0 for one, other in pairwise(cues))
    if any(cue.has_word_times for cue in cues):
        return 4 * carried >= len(cues) - 1
    return carried > 1 and 2 * carried >= len(cues) - 1


def _rolled_out(cues: Sequence[_Cue]) -> Iterator[SubtitleLine]:
    """Each phrase once. A cue without a new phrase keeps the phrase before it on screen."""
    held: SubtitleLine | None = None
    for place, cue in enumerate(cues):
        fresh = cue.lines[_carried(cues[place - 1], cue) :] if place else cue.lines
        if fresh or held is None:
            if held is not None:
                yield held
            held = SubtitleLine(cue.start, cue.end, " ".join(fresh))
        else:
            held = SubtitleLine(held.start, max(held.end, cue.end), held.text)
    if held is not None:
        yield held


def _carried(before: _Cue, cue: _Cue) -> int:
    """How many of the cue's first lines are the last lines of the cue before it, which has just ended."""
    if not before.start <= cue.start <= before.end + _ROLLING:
        return 0
    most = min(len(before.lines), len(cue.lines), _LONGEST_CARRIED)
    return next((count for count in range(most, 0, -1) if before.lines[-count:] == cue.lines[:count]), 0)


def _is_head(line: str) -> bool:
    return _HEAD.match(line.lstrip()[:_LONGEST_HEAD]) is not None


def _stray(line: str, number: int) -> str:
    return f"line {number}: {line.strip()[:60]!r} is not under a time line"


def _is_number(line: str) -> bool:
    return _NUMBER.fullmatch(line.strip()) is not None
