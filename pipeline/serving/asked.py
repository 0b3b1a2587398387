"""What a sampler is asked, where a client sends a whole prompt for an answerer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.domain import Question
from pipeline.errors import InputError
from pipeline.option_labels import split_options

LONGEST_QUESTION = 20_000
"""Characters of a question with its options. A sampler reads them beside the frames of each window, so that a long text
would keep the server, and its memory, from all other clients."""

_LONGEST = 400
"""Characters of a line that says how to answer."""
_OPENS = re.compile(
    r"\s*(?:please\s+)?(?:select|choose|pick|answer|respond)\b.*"
    r"\b(?:following|best|correct|right|multiple.choice)\b.*\b(?:question|answer|option|choice)s?\b.*",
    re.IGNORECASE,
)
"""A line before the question that says how to answer."""
_CLOSES = re.compile(
    r"\s*(?:please\s+)?(?:answer|respond|reply|keep)\b.*"
    r"\b(?:answer|option|letter|choice|word|phrase|sentence|short|concise|brief)(?:s|ly)?\b.*",
    re.IGNORECASE,
)
"""A line after it that does."""
_HEADING = re.compile(r"\s*(?:options|choices|answers)\s*:\s*", re.IGNORECASE)
_BEGINS = re.compile(r"(?:^|(?<=[.!]))\s*question\s*:\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A question without the words that frame it."""

    question: str
    options: tuple[str, ...] | None


def asked_in(prompt: str) -> Asked:
    """The question and the options in a prompt.

    The options are split off by their labels (:func:`pipeline.option_labels.split_options`), and what follows them is
    left out, as is what comes before "Question:" at the head of a line or a sentence. So are the heading "Options:",
    lines at the beginning and at the end that say how to answer, and such words after a question mark at the end. What
    is nothing but such a line is kept.
    """
    before, options, _ = split_options(prompt)
    lines = [line for line in before.splitlines() if line.strip()]
    if lines and options and _HEADING.fullmatch(lines[-1]):
        lines.pop()
    for place in reversed(range(len(lines))):
        if begins := _BEGINS.search(lines[place]):
            lines = [lines[place][begins.end() :], *lines[place + 1 :]]
            break
    first, end = 0, len(lines)
    while end - first > 1 and _matches(_OPENS, lines[first]):
        first += 1
    while end - first > 1 and _matches(_CLOSES, lines[end - 1]):
        end -= 1
    lines = lines[first:end]
    if lines:
        words, mark, after = lines[-1].rpartition("?")
        lines[-1] = f"{words}?" if mark and words and _matches(_CLOSES, after) else lines[-1]
    return Asked("\n".join(lines).strip() or prompt.strip(), options or None)


def check_length(question: Question) -> None:
    """Raise for a question that is too long for a sampler.

    Raises:
        InputError: it has more than :data:`LONGEST_QUESTION` characters.
    """
    length = len(question.text) + sum(map(len, question.options or ()))
    if length > LONGEST_QUESTION:
        raise InputError(
            f"the question has {length} characters, more than the {LONGEST_QUESTION} that a sampler is asked",
            "ask in fewer words; a request with a long prompt names its question in the field gens",
        )


def _matches(pattern: re.Pattern[str], line: str) -> bool:
    """Whether a line is of this form; none of these is long, and the patterns take long for one that is."""
    return len(line) <= _LONGEST and pattern.fullmatch(line) is not None
