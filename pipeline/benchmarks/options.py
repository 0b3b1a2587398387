"""Options and right answers as benchmarks write them: options inside the question, letters, indices."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.domain import OPTION_LETTERS
from pipeline.errors import InputError

_REMEDY = "correct the row, or fetch the annotations again"


def parted(question: str, where: str) -> tuple[str, tuple[str, ...]]:
    """The text, and the options below it, each on a line of its own: ``(A) ...``.

    Raises:
        InputError: there are no options ``(A)``, ``(B)`` ... in this order.
    """
    text, *rest = re.split(r"\n\s*\(([A-Z])\)[^\S\n]*", question)
    letters, options = rest[::2], rest[1::2]
    if len(options) < 2 or "".join(letters) != OPTION_LETTERS[: len(letters)]:
        raise InputError(f"{where}: no options (A), (B) ... below the question", _REMEDY)
    return text.strip(), tuple(option.strip() for option in options)


def listed(text: str, where: str) -> tuple[str, ...]:
    """The options of one text, each beginning on a line of its own: ``A. ...``. Other lines continue an option.

    Raises:
        InputError: it does not begin with ``A.``, or there is no second option.
    """
    options: list[str] = []
    for line in text.strip().split("\n"):
        label = f"{OPTION_LETTERS[min(len(options), len(OPTION_LETTERS) - 1)]}."
        if line.lstrip().startswith(label):
            options.append(line.lstrip()[len(label) :].strip())
        elif options:
            options[-1] = f"{options[-1]}\n{line.strip()}".strip()
        else:
            break
    if len(options) < 2:
        raise InputError(f"{where}: options: no lines A., B. ... in {text[:80]!r}", _REMEDY)
    return tuple(options)


def lettered(answer: str | None, options: Sequence[str], where: str) -> int | None:
    """The index of the option that ``answer`` is the letter of; None if it is not known.

    Raises:
        InputError: it is not a letter of an option.
    """
    if answer is None:
        return None
    letters = OPTION_LETTERS[: len(options)]
    if len(answer) != 1 or answer not in letters:
        raise InputError(f"{where}: the answer {answer!r} is none of {letters}", _REMEDY)
    return letters.index(answer)


def indexed(correct: int | None, options: Sequence[str], where: str) -> int | None:
    """``correct`` if it is an index into ``options``, or if it is not known.

    Raises:
        InputError: it is another number.
    """
    if correct is not None and not 0 <= correct < len(options):
        raise InputError(f"{where}: option {correct} of {len(options)} is right", _REMEDY)
    return correct
