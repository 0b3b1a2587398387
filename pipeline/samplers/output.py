"""Reads the scores out of what GenS wrote: ``{"11-12": 5, "16-21": 4, "33": 2}`` and the forms that models make of it.

Keys are frame numbers of the window, single or as spans with both ends included; values are scores from 1 to 5; a frame
that is not named is not relevant (released inference code of GenS, arXiv 2503.09146). Models also write fences, prose,
units, lists of pairs, records, thoughts before the scores, and stop in the middle. What can be read for certain is
read, the rest is counted, and nothing is guessed.

The time grows linearly with the length of the text, whatever is in it: a model that loops must not stop the run.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.domain import Status
from pipeline.thoughts import split_thoughts

_LOG = logging.getLogger(__name__)

LOWEST, HIGHEST = 1.0, 5.0


@dataclass
class Reading:
    """The scores in one window's output."""

    scores: dict[int, float] = field(default_factory=dict)
    """By position in the window, from 0. The highest where a frame is named more than once."""
    says_nothing_relevant: bool = False
    """It is in the asked form, and names no frame: ``{}``, or scores of 0 only."""
    ignored: int = 0
    """Entries without a frame number or score that can be read, or wholly outside the window."""
    clamped: int = 0
    """Entries of which a part lay outside the window, or whose score lay outside 1 to 5."""

    @property
    def status(self) -> Status:
        """``ok``, ``nothing_relevant`` or ``no_scores``."""
        if self.scores:
            return Status.OK
        return Status.NOTHING_RELEVANT if self.says_nothing_relevant and not self.ignored else Status.NO_SCORES


def read_scores(text: str, frames: int, first_number: int) -> Reading:
    """The scores in ``text``, the output for a window of ``frames`` frames numbered from ``first_number``."""
    reading = Reading()
    try:
        for key, value in _entries(split_thoughts(text).answer, reading):
            score = _score(value)
            spans = _spans(key)
            if score is None or not spans:
                reading.ignored += 1
            elif score <= 0:  # outside the scale, and clear all the same
                reading.says_nothing_relevant = True
            else:
                _add(reading, spans, score, frames, first_number)
    except Exception:  # one text must not end a run of thousands
        _LOG.exception("The output of one window could not be read, and counts as one without scores: %.200r", text)
        return Reading(ignored=1)
    return reading


def _add(reading: Reading, spans: list[tuple[int, int]], score: float, frames: int, first_number: int) -> None:
    bounded = min(max(score, LOWEST), HIGHEST)
    outside = bounded != score
    named = False
    for start, end in spans:
        low, high = sorted((start - first_number, end - first_number))
        inside = range(max(low, 0), min(high, frames - 1) + 1)
        outside = outside or len(inside) < high - low + 1
        named = named or bool(inside)
        for position in inside:
            reading.scores[position] = max(bounded, reading.scores.get(position, 0.0))
    if not named:
        reading.ignored += 1
    elif outside:
        reading.clamped += 1


# --- finding the entries -------------------------------------------------------------------------------------------


class _Object(tuple[tuple[str, Any], ...]):
    """A JSON object as its pairs, since a plain dict would drop a key that is written twice."""


_DECODER = json.JSONDecoder(object_pairs_hook=_Object)
_OPENING = re.compile(r"[{\[]")
_OBJECT = re.compile(r"\{")
_LISTS_TRIED = 100
"""Brackets that turn out to begin no JSON. An output of scores has few, and each may cost a scan of the whole text."""
_FRAME_KEYS = {"timestamp", "timestamps", "time", "frame", "frames", "span", "second", "seconds", "number", "index"}
_SCORE_KEYS = {"score", "relevance", "relevance_score", "relevance score"}


def _entries(text: str, reading: Reading) -> Iterator[tuple[Any, Any]]:
    is_empty_list = re.sub(r"```\w*", "", text).strip() == "[]"
    position, failed = 0, 0
    while opening := (_OPENING if failed < _LISTS_TRIED else _OBJECT).search(text, position):
        start = opening.start()
        try:
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            if _LIST_OF_LISTS.match(text, start):
                yield from _loose_pairs(text, start)
                return
            if opening[0] == "{":
                yield from _loose_entries(text, start)
                return
            position = opening.end()
            failed += 1
        else:
            # An empty object is the asked form; an empty list counts only where it is all there is.
            if not value and (isinstance(value, _Object) or is_empty_list):
                reading.says_nothing_relevant = True
            yield from _walk(value)


def _walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs of frame and score in a JSON value, in their order, however deep they are."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, _Pair):
            yield value.frame, value.score
        elif isinstance(value, _Object):
            frame = next((item for key, item in value if key.strip().lower() in _FRAME_KEYS), None)
            score = _named_score(value)
            if score is not None and frame is not None:
                yield frame, score
            else:
                left += reversed([_member(key, item) for key, item in value])
        elif isinstance(value, list):
            left += reversed([_element(item) for item in value])


@dataclass(frozen=True)
class _Pair:
    frame: Any
    score: Any


def _member(key: str, item: Any) -> Any:
    if not isinstance(item, _Object | list):
        return _Pair(key, item)
    if isinstance(item, _Object) and (inner := _named_score(item)) is not None and _spans(key):
        return _Pair(key, inner)
    return item


def _element(item: Any) -> Any:
    if isinstance(item, list) and len(item) == 2 and not any(isinstance(part, _Object | list) for part in item):
        return _Pair(item[0], item[1])
    return item


def _named_score(value: _Object) -> Any:
    return next((item for key, item in value if key.strip().lower() in _SCORE_KEYS), None)


# --- entries of what is not valid JSON: bare keys, single quotes, a missing comma, an end in the middle ---------------

_LIST_OF_LISTS = re.compile(r"\[\s*\[")
_HAS_DIGIT = re.compile(r"\d")
_LOOSE_SCORE = re.compile(r"""\s*["']?(-?\d+(?:\.\d+)?)(?![\d:])""")
_INNERMOST = re.compile(r"\[([^\[\]]*+)\]")
_LOOSE_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def _loose_entries(text: str, start: int) -> Iterator[tuple[str, str]]:
    """Each ``key: score`` with a digit in the key.

    A key reaches from its colon back to a brace, a quote, another colon or the score before it.
    """
    colon = text.find(":", start)
    while colon >= 0:
        key = text[start:colon].rstrip()
        key = key[:-1] if key.endswith(('"', "'")) else key
        key = key[max(map(key.rfind, "\"'{}")) + 1 :]
        start = colon + 1
        if _HAS_DIGIT.search(key) and (score := _LOOSE_SCORE.match(text, start)):
            yield key, score[1]
            start = score.end()
        colon = text.find(":", start)


def _loose_pairs(text: str, start: int) -> Iterator[tuple[str, str]]:
    """Each ``[key, score]`` with a digit in the key; a key may hold commas."""
    for inner in _INNERMOST.finditer(text, start):
        key, _, score = inner[1].rpartition(",")
        key, number = _unquoted(key), _LOOSE_NUMBER.fullmatch(_unquoted(score))
        if number and _HAS_DIGIT.search(key) and not {"'", '"'} & set(key):
            yield key, number[0]


def _unquoted(text: str) -> str:
    """Without one quote at either end."""
    text = text.strip()
    text = text[1:] if text.startswith(('"', "'")) else text
    return text[:-1] if text.endswith(('"', "'")) else text


# --- reading one entry ---------------------------------------------------------------------------------------------

_WORDS = re.compile(
    r"\b(?:frames?|images?|timestamps?|seconds?|secs?|number|no\.)(?![a-z])|(?<=\d)\s*s(?:ec(?:ond)?s?)?\b|[\[\]()#\"']"
)
_SPAN = re.compile(r"\s*(\d{1,9})(?:\.\d*)?\s*(?:(?:-|–|—|−|~|to|\.\.+)\s*(\d{1,9})(?:\.\d*)?\s*)?")  # noqa: RUF001
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d+)?")


def _spans(key: Any) -> list[tuple[int, int]]:
    """Frame numbers as (first, last), or nothing where any part of the key cannot be read."""
    if isinstance(key, bool) or not isinstance(key, str | int | float):
        return []
    words = _WORDS.sub(" ", str(key).lower())
    spans = []
    for part in re.split(r"[,;&]|\band\b", words):
        match = _SPAN.fullmatch(part)
        if match:
            spans.append((int(match[1]), int(match[2] or match[1])))
        elif part.strip():
            return []
    return spans


def _score(value: Any) -> float | None:
    if isinstance(value, bool) or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        number = _NUMBER.search(value)
        return float(number[0]) if number else None
    if isinstance(value, int | float):
        return float(min(max(value, -1), 10))  # an integer of hundreds of digits would not fit a float
    return None
