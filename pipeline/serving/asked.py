"""What a sampler is asked, where a client sends a whole prompt for an answerer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.option_labels import split_options

_INSTRUCTS = re.compile(
    r"\s*(?:please\s+)?(?:(?:only\s+)?(?:answer|respond|reply|select|choose|pick|give|output|keep|directly|write)\b.*"
    r"|(?:the\s+)?best\s+(?:answer|option)\s*(?:is)?\s*:?\s*\(?|answer\s*:)\s*",
    re.IGNORECASE,
)
"""A line that says how to answer."""
_NAMES_ANSWER = re.compile(
    r"\b(?:answer|option|letter|choice|word|phrase|sentence|concise|short|final)s?\b", re.IGNORECASE
)
_HEADING = re.compile(r"\s*(?:options|choices|answers)\s*:\s*", re.IGNORECASE)
_BEFORE = re.compile(r"\s*question\s*:\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A question without the words that frame it."""

    question: str
    options: tuple[str, ...] | None


def asked_in(prompt: str) -> Asked:
    """The question and the options in a prompt.

    The options are split off by their labels (:func:`pipeline.option_labels.split_options`), and what follows them is
    left out. Lines at the beginning and at the end that say how to answer are left out, and so are the words
    "Question:" and "Options:". What is nothing but such lines is kept as it is.
    """
    before, options, _ = split_options(prompt)
    lines = [line for line in before.splitlines() if line.strip()]
    if lines and options and _HEADING.fullmatch(lines[-1]):
        lines = lines[:-1]
    while len(lines) > 1 and _says_how(lines[0]):
        lines = lines[1:]
    while len(lines) > 1 and _says_how(lines[-1]):
        lines = lines[:-1]
    question = _BEFORE.sub("", "\n".join(lines), count=1) if lines and _BEFORE.match(lines[0]) else "\n".join(lines)
    return Asked(question.strip() or prompt.strip(), options or None)


def _says_how(line: str) -> bool:
    return _INSTRUCTS.fullmatch(line) is not None and _NAMES_ANSWER.search(line) is not None
