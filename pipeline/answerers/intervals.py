"""Which intervals of the video a model's words mean, by one documented rule.

As for options (:mod:`pipeline.answerers.options`), thoughts are left out, and words that name no interval name none:
nothing is guessed. Whoever changes how a text is read raises :data:`pipeline.identity.READING_VERSION`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from pipeline.domain import LONGEST, Span
from pipeline.wellformed import loaded

MOST = 100
"""Intervals of an answer. A model that repeats itself names more."""
_KEYS = ("result", "final_answer", "answer", "intervals", "interval", "clue_intervals", "timestamps", "time")
_AROUND = 60
"""Characters around what looks like an interval that are looked at."""
_DEEPEST = 3
"""Objects and lists within one another."""
_FENCE = re.compile(r"```[a-z]*\s*(.*?)```", re.DOTALL)
_UNIT = r"(?:\s?(?:s|sec|secs|second|seconds)\b\.?)?"
_TIME = r"(?:\d{1,3}:)?\d{1,3}:\d{1,2}(?:\.\d{1,6})?|\d{1,9}(?:\.\d{1,6})?"
_PAIR = re.compile(
    r"(?<![\w.:-])(?:(?<!\d,)|(?!\d{3}\b))"  # not within 1,200
    rf"(?P<start>{_TIME}){_UNIT}\s{{0,3}}(?:-{{1,2}}>?|[\u2013\u2014~\u2192]|to\b|until\b|and\b|,)"
    rf"\s{{0,3}}(?:second\s)?(?P<end>{_TIME}){_UNIT}(?![\w:]|\.\d|-\d|,\d{{3}}\b)",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\b(?:between|from)\b[^.\n]{0,40}$", re.IGNORECASE)
_NUMBERED = re.compile(r"\b(?:frame|image|picture|scene|shot|clip|option)s?\s?#?$", re.IGNORECASE)
"""Before numbers that are no times."""
_OTHER = re.compile(r"\s?(?:%|(?:m|mins?|minutes?|h|hours?|fps|frames?)\b)", re.IGNORECASE)
"""After numbers that are no seconds, and may follow a clock time."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")


def read_intervals(parts: Sequence[str], *, is_cut: bool) -> tuple[Span, ...] | None:
    """The intervals that an answer names, in order of time; None if it names none that can be read.

    1. A JSON value, alone or in the last code fence: a list of ``[start, end]``, one such pair, or an object that has
       one under ``result``, ``answer``, ``intervals`` and the like. A pair may be a text.
    2. Without JSON, the last line or sentence that names an interval: ``24.3 - 30.4``, ``24.3s to 30.4s``,
       ``1:02-1:10``, ``between 24 and 30``, ``[24, 30]``. All intervals of that sentence count.

    Seconds, or ``MM:SS`` and ``H:MM:SS``; numbers of minutes or frames are not read. An interval whose ends are the
    wrong way round is turned round.

    Args:
        parts: the texts before and after thoughts; the last one is read first, and all of them together if nothing can
            be read from it.
        is_cut: the token limit cut the text. Then an interval at its very end may lack digits, and is not read.
    """
    for text in (*parts[-1:], *(["\n".join(parts)] if len(parts) > 1 else [])):
        values = list(_json_values(text))
        found = _of_value(values[0], 0) if values else _of_words(text, is_cut=is_cut)
        if found:
            return tuple(sorted(set(found), key=lambda span: (span.start, span.end)))
    return None


def _json_values(text: str) -> Iterator[Any]:
    """What the whole text is, and what its code fences hold, the last one first; whatever of it is JSON."""
    for body in (text.strip(), *(fenced.strip() for fenced in reversed(_FENCE.findall(text)))):
        if body.startswith(("{", "[")):
            with suppress(ValueError, RecursionError):
                yield loaded(body)


def _of_value(value: Any, depth: int) -> list[Span] | None:
    """The intervals of a JSON value; None if a part of it is none."""
    match value:
        case dict() if depth <= _DEEPEST:
            return _of_object(value, depth)
        case str():
            return _of_words(value, is_cut=False)
        case [start, end] if not isinstance(start, list | dict) and _second(start) is not None:
            return _span(_second(start), _second(end))
        case list() if depth <= _DEEPEST and 0 < len(value) <= MOST:
            parts = [_of_value(each, depth + 1) for each in value]
            return [span for part in parts for span in part or ()] if all(parts) else None
    return None


def _of_object(value: dict[Any, Any], depth: int) -> list[Span] | None:
    named = {str(key).casefold().replace(" ", "_"): each for key, each in value.items()}
    if "start" in named and "end" in named:
        return _span(_second(named["start"]), _second(named["end"]))
    known = next((named[key] for key in _KEYS if key in named), None)
    return _of_value(known, depth + 1)


def _of_words(text: str, *, is_cut: bool) -> list[Span] | None:
    place = len(text)
    for sentence in reversed(_SENTENCE.split(text)):
        found = []
        place = text.rfind(sentence, 0, place) if sentence else place
        for match in _pairs(sentence):
            if is_cut and place + match.end() >= len(text.rstrip()):
                continue
            found += _span(_second(match["start"]), _second(match["end"])) or []
        if found:
            return found if len(found) <= MOST else None
    return None


def _pairs(sentence: str) -> Iterator[re.Match[str]]:
    """What looks like an interval. A comma only joins two numbers in brackets, and "and" only after "between"."""
    for match in _PAIR.finditer(sentence):
        joint = sentence[match.end("start") : match.start("end")].casefold()
        before = sentence[max(0, match.start() - _AROUND) : match.start()]
        after = sentence[match.end() : match.end() + _AROUND]
        if "," in joint and not (before.rstrip()[-1:] in ("[", "(") and after.lstrip()[:1] in ("]", ")")):
            continue
        if ("and" in joint and _BETWEEN.search(before) is None) or _NUMBERED.search(before):
            continue
        if ":" not in match["end"] and _OTHER.match(after):
            continue
        yield match


def _second(value: Any) -> float | None:
    """Seconds of a number, of its text, or of a clock time."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if 0 <= value <= LONGEST else None
    if not isinstance(value, str) or re.fullmatch(rf"({_TIME}){_UNIT}", value.strip()) is None:
        return None
    seconds = 0.0
    for part in re.sub(r"[a-z\s]|\.$", "", value.strip()).split(":"):
        seconds = 60 * seconds + float(part)
    return seconds if seconds <= LONGEST else None


def _span(start: float | None, end: float | None) -> list[Span] | None:
    if start is None or end is None:
        return None
    return [Span(min(start, end), max(start, end))]
