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
    starts = [place for place, line in enumerate(lines) if _head(0).match(line)]
    # A list ends where another one begins, so that a long text is gone through once.
    for start, end_of_all in zip(reversed(starts), [len(lines), *reversed(starts)], strict=False):
        heads = [(start, _head(0).match(lines[start]))]
        for place in range(start + 1, end_of_all):
            if len(heads) < len(OPTION_LETTERS) and (head := _head(len(heads)).match(lines[place])):
                heads.append((place, head))
        if len(heads) > 1:
            ends = [*(place for place, _ in heads[1:]), heads[-1][0] + 1]
            options = [
                " ".join([lines[place][head.end() if head else 0 :], *lines[place + 1 : end]]).strip()
                for (place, head), end in zip(heads, ends, strict=True)
            ]
            return "\n".join(lines[:start]), tuple(options), "\n".join(lines[ends[-1] :])
    return text, (), ""


def _label(place: int) -> re.Pattern[str]:
    return re.compile(rf"\s*\(?{OPTION_LETTERS[place]}[.):]\s+(?=\S)")


def _head(place: int) -> re.Pattern[str]:
    """A label at the head of a line; as CG-Bench writes it, ``A:White``, too."""
    return re.compile(rf"\s*\(?{OPTION_LETTERS[place]}(?:[.)]\s+|:\s*)(?=\S)")
