"""Labels that options carry in a file, ``A. red`` or ``(B) blue``; whoever shows options puts others before them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.domain import OPTION_LETTERS


def without_labels(options: Sequence[str]) -> tuple[str, ...]:
    """The options' words, without labels of their own where all have them.

    One alone is not a label: of ``A. Smith`` and ``Jones`` both are names.
    """
    own = [_label(place).match(option) for place, option in enumerate(options[: len(OPTION_LETTERS)])]
    ends = [label.end() for label in own if label]
    labels = ends if len(ends) == len(options) else [0] * len(options)
    return tuple(option[end:].strip() for end, option in zip(labels, options, strict=True))


def split_options(text: str) -> tuple[str, tuple[str, ...], str]:
    """The words before a list of options, the options without their labels, and the words after it.

    Options are lines that begin with the labels A, B and so on, in this order, at least two. Of several such lists the
    last counts. A line without a label continues the option before it, and the last option is one line. Without a list
    all of the text stands before.
    """
    lines = text.splitlines()
    starts = [place for place, line in enumerate(lines) if _label(0).match(line)]
    for start in reversed(starts):
        places = [start]
        for place in range(start + 1, len(lines)):
            if len(places) < len(OPTION_LETTERS) and _label(len(places)).match(lines[place]):
                places.append(place)
        if len(places) > 1:
            ends = [*places[1:], places[-1] + 1]
            options = without_labels([" ".join(lines[one:end]) for one, end in zip(places, ends, strict=True)])
            return "\n".join(lines[:start]), options, "\n".join(lines[ends[-1] :])
    return text, (), ""


def _label(place: int) -> re.Pattern[str]:
    return re.compile(rf"\s*\(?{OPTION_LETTERS[place]}[.):]\s+(?=\S)")
