"""Reads a verdict from a judge's reply, in the form that a rubric asks for.

Published scripts read more than they should: "0 (10 %)" is right where any "1" counts, and "C" is right where an error
leaves something that is not empty. Here a reply that is not in the form asked for holds no verdict. Of several objects
the last valid one counts, because many judges explain before they decide.

Each form has a ``scale``; a JSON ``schema`` of its replies, or the few ``choices`` that there are, by which servers can
be bound to it, unless a reply may hold more; and ``read``, which takes a whole reply without thoughts and gives None
where that holds no verdict.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError
from pipeline.judging import Scale
from pipeline.wellformed import loaded

_MOST_OBJECTS = 200
"""Braces at which an object may begin, from the end."""
_LONGEST_OBJECT = 20_000
"""Characters."""
_TYPES = {bool: "boolean", int: "integer", float: "number", type(None): "null"}
"""Of JSON schemas."""


@dataclass(frozen=True)
class Verdict:
    """What a reply says."""

    score: float | None
    """None: the judge wants to see the video."""
    parts: Mapping[str, float]


@dataclass(frozen=True)
class LetterVerdict:
    """A single letter, such as A for CORRECT."""

    grades: Mapping[str, str]
    """The grade's name by its letter."""
    right: tuple[str, ...]
    """The letters that score 1; the others score 0."""

    def __post_init__(self) -> None:
        """Check that a letter decides.

        Raises:
            ConfigError: it does not.
        """
        if not set(self.right) < set(self.grades) or any(len(letter) != 1 for letter in self.grades):
            raise ConfigError(
                f"{', '.join(self.right) or 'none'} of the grades {', '.join(self.grades)} as right tell nothing apart",
                "name letters of the grades, and not all: judge.rubric.words.verdict.right=[A]",
            )

    @property
    def scale(self) -> Scale:
        """0 or 1."""
        return Scale(0.0, 1.0)

    def schema(self) -> Mapping[str, Any] | None:
        """None: a letter is no object."""
        return None

    def choices(self) -> Sequence[str] | None:
        """The letters."""
        return tuple(self.grades)

    def read(self, text: str) -> Verdict | None:
        """The last line, if it holds a letter, the grade's name, or both where they agree, and nothing else."""
        lines = [line for line in text.splitlines() if re.search(r"\w", line)]
        meant = [letter for letter in self.grades if lines and self._pattern(letter).fullmatch(lines[-1])]
        return Verdict(float(meant[0] in self.right), {}) if len(meant) == 1 else None

    def _pattern(self, letter: str) -> re.Pattern[str]:
        """``A``, ``**A.**``, ``A: CORRECT``, ``CORRECT (A)``, ``Grade: A``."""
        name = r"[\s_-]?".join(map(re.escape, re.split(r"[\s_-]", self.grades[letter])))
        either = rf"{re.escape(letter)}(?:\W{{1,5}}{name})?|{name}(?:\W{{1,5}}{re.escape(letter)})?"
        return re.compile(rf"\W*(?:(?:final )?(?:grade|verdict|answer)\W{{1,5}})?(?:{either})\W*", re.IGNORECASE)


@dataclass(frozen=True)
class ChoiceVerdict:
    """A JSON object with one field of few values, such as ``{"correct": true}``."""

    field: str
    scores: Mapping[str, float | None]
    """The score by the value as JSON writes it, ``"true"`` or ``"0"``, or by a text, ``yes``; None: the judge wants to
    see the video."""
    texts: tuple[str, ...]
    """Fields of the object with text, which come first and are kept with the reply."""
    alone: bool
    """Whether the object is all of the reply, so that a server can be bound to its schema."""

    def __post_init__(self) -> None:
        """Check that there is something to choose.

        Raises:
            ConfigError: there is not.
        """
        if len({score for score in self.scores.values() if score is not None}) < 2:
            raise ConfigError(
                f"the values {', '.join(self.scores)} have no two scores",
                'give the values of its YAML two scores, such as "true": 1 and "false": 0',
            )

    @property
    def scale(self) -> Scale:
        """From the lowest to the highest of the scores."""
        known = [score for score in self.scores.values() if score is not None]
        return Scale(min(known), max(known))

    def schema(self) -> Mapping[str, Any] | None:
        """All fields, and no others; None where other text may stand beside the object."""
        if not self.alone:
            return None
        values = [_as_json(value) for value in self.scores]
        return _schema({**{name: {"type": "string"} for name in self.texts}, self.field: _one_of(values)})

    def choices(self) -> Sequence[str] | None:
        """None: the object may hold texts."""
        return None

    def read(self, text: str) -> Verdict | None:
        """The last object whose field has one of the values, as itself or in quotation marks."""
        for found in objects(text):
            value = found.get(self.field)
            written = value.strip().casefold() if isinstance(value, str) else json.dumps(value)
            if written in self.scores:
                return Verdict(self.scores[written], {})
        return None


@dataclass(frozen=True)
class ScoresVerdict:
    """A JSON object of several scores, of which the sum counts."""

    texts: tuple[str, ...]
    """As of :class:`ChoiceVerdict`."""
    fields: tuple[str, ...]
    lowest: float
    """Of each score."""
    highest: float
    alone: bool
    """As of :class:`ChoiceVerdict`."""

    @property
    def scale(self) -> Scale:
        """The scale of the sum."""
        return Scale(self.lowest * len(self.fields), self.highest * len(self.fields))

    def schema(self) -> Mapping[str, Any] | None:
        """As of :class:`ChoiceVerdict`."""
        if not self.alone:
            return None
        texts = {name: {"type": "string"} for name in self.texts}
        return _schema({**texts, **{name: {"type": "number"} for name in self.fields}})

    def choices(self) -> Sequence[str] | None:
        """None: there are many."""
        return None

    def read(self, text: str) -> Verdict | None:
        """The last object with all scores within their bounds. A total that it states is not read: it is the sum."""
        for found in objects(text):
            parts = {name: found.get(name) for name in self.fields}
            if all(map(self._is_score, parts.values())):
                known = {name: float(value) for name, value in parts.items() if value is not None}
                return Verdict(math.fsum(known.values()), known)
        return None

    def _is_score(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.lowest <= value <= self.highest


def objects(text: str) -> list[Mapping[str, Any]]:
    """The objects in a text, as JSON or as Python writes a dict, the last first. Objects within others are left out."""
    found: list[Mapping[str, Any]] = []
    decoder = json.JSONDecoder()
    end = 0
    for start in [place.start() for place in re.finditer(r"\{", text)][-_MOST_OBJECTS:]:
        if start < end:
            continue
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            value, end = _python_dict(text, start)
        if isinstance(value, dict):
            found.append(value)
    return found[::-1]


def _as_json(written: str) -> Any:
    try:
        return loaded(written)
    except ValueError:
        return written


def _one_of(values: Sequence[Any]) -> Mapping[str, Any]:
    """The schema of a field with few values. OpenAI's strict mode wants a type with it."""
    types = {_TYPES.get(type(value), "string") for value in values}
    if types == {"boolean"}:
        return {"type": "boolean"}
    return {"type": types.pop() if len(types) == 1 else sorted(types), "enum": list(values)}


def _python_dict(text: str, start: int) -> tuple[Any, int]:
    """The dict that begins there, with quotes and words as in Python, and its end; None if there is none."""
    end = text.find("}", start, start + _LONGEST_OBJECT) + 1
    try:
        return (ast.literal_eval(text[start:end]), end) if end else (None, start)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None, start


def _schema(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
