"""Whether reading a text takes time in proportion to its length, over texts that a looping model writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

LONGER = 16
UNITS = (
    *('{"a":', "{", "[", "[1,", "{1", "[[1,", "{}", "[]", "[1,2] ", '{"answer": "', '"1": 5, ', "1-2,", '[["1"', "0:"),
    *("1", "1:", "9 ", "- B. ", "a", "A ", "A, ", "A or ", "(A) ", "not (A) ", '"A" ', "option A ", "A. red\n", "A..."),
    *(
        "red, ",
        "red blue ",
        "the answer is ",
        "the answer to ",
        "answer is A, ",
        "I say red, ",
        "final answer ",
        "so\n",
    ),
    *("sorry ", "cannot ", " ", "\n", " \n", "\t", '"', "'", "`", "*", "_", "#", ")", "\\", "\\boxed{", "</b>"),
    *(
        "<b>",
        "<",
        "<|",
        "<think>",
        "</think>",
        "<think></think>",
        "<analysis></think>",
        "<think a=b ",
        "&lt;",
        "thought\n",
    ),
    *("\u7b54\u6848", "\u9009A", "a\u0301\u0327", "\u2028", "\U0001f600"),
)


def shapes(heads: Sequence[str]) -> Iterator[tuple[str, Callable[[int], str]]]:
    """Of texts that begin with ``heads``: name, and maker of a text of about so many characters."""
    for head in heads:
        for unit in UNITS:
            yield (
                f"{head!r}, then {unit!r} again and again",
                lambda length, head=head, unit=unit: head + (unit * (length // len(unit) + 1))[:length] + "!",
            )


def grows_too_fast(read: Callable[[str], object], heads: Sequence[str], length: int = 300) -> list[str]:
    """The shapes whose reading takes far more than 16 times as long for a text of 16 times the length.

    With the square of the length it would be 256 times as long; the bound of 64 leaves room for a busy machine.
    """
    return slow_among(read, shapes(heads), length)


def slow_among(
    read: Callable[[str], object], texts: Iterable[tuple[str, Callable[[int], str]]], length: int
) -> list[str]:
    """The same for shapes of any kind: name, and maker of a text of about so many characters."""
    found = []
    for name, text in texts:
        short, long = text(length), text(LONGER * length)
        seconds = _seconds(read, long, 1)
        if seconds > 0.05 and _seconds(read, long, 3) > 4 * LONGER * _seconds(read, short, 5):
            found.append(f"{name}: {seconds:.2f} s")
    return found


def _seconds(read: Callable[[str], object], text: str, tries: int) -> float:
    """Of processor time, the least of some tries."""
    least = float("inf")
    for _ in range(tries):
        start = time.process_time()
        read(text)
        least = min(least, time.process_time() - start)
    return least
