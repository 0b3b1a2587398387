"""Re-implements how other projects' scripts read an option from a model's text, for comparison.

Our own rule is :func:`pipeline.answerers.options.read_option`. These are less strict: taking the first capital letter
anywhere reads "Based on ..." as B. They only serve to compare with published numbers that were made this way, and never
decide the option of an answer.

Each function takes the model's answer and returns the option's index, or None. An index may lie beyond the question's
options, as the scripts' letters do; it then counts as a wrong answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.domain import OPTION_LETTERS

_LONGVIDEOBENCH_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)
_VIDEO_MME_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    # Two commas are missing in the script's list, so that these four became two which no model writes.
    "The best option isThe correct option is",
    "Best answer:Best option:",
)


def longvideobench_option(text: str) -> int | None:
    """The first of A to E anywhere, after the stock phrases are deleted (LongVideoBench, arXiv 2407.15754; lmms-eval).

    If there is none, the script draws one of the options at random; that is left to the caller.
    """
    return _first_letter(text, _LONGVIDEOBENCH_PHRASES, "ABCDE")


def video_mme_option(text: str) -> int | None:
    """The first of A to D anywhere, after the stock phrases are deleted (Video-MME, ``eval_your_results.py``).

    "Best answer: C" is B, as in the script: its list of phrases lacks two commas, so the B of "Best" is found first.
    """
    return _first_letter(text, _VIDEO_MME_PHRASES, "ABCD")


def mlvu_option(text: str) -> int | None:
    """The character before the first ``)``, or else the whole text, if it is a letter (MLVU, arXiv 2406.04264).

    The script's prompt ends in ``Best option: (``, so that a model continues with ``B) red``. It compares the text
    unchanged: "B." is nothing, and so are "B" with a space around it and "B )".
    """
    end = text.find(")")
    return _index(text if end < 0 else text[max(0, end - 1) : end])


_LMMS_EVAL_PHRASES = (
    *(
        "the answer is",
        "answer is",
        "the correct answer is",
        "correct answer is",
        "the best answer is",
        "best answer is",
    ),
    *("the correct option is", "correct option is", "the best option is", "best option is"),
    *("the choice is", "choice is", "the correct choice is", "correct choice is"),
    *("my answer is", "my choice is", "i choose", "i select", "i pick"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
_STRIPPED_FIRST = ",.!?;:'\""
_REASONING_TAGS = (("<think>", "</think>"), ("<analysis>", "</analysis>"))
_START, _END, _PHRASE = 10, 9, 7
_FORMS = ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} "))


def without_reasoning(text: str) -> str:
    """The text as lmms-eval 0.7 hands it to its tasks: without ``<think>`` and ``<analysis>`` blocks.

    Its ``--reasoning_tags`` are these two by default (``lmms_eval/api/reasoning.py``). Capitals matter. Of a text with
    closing tags alone, what follows the last one is kept; a block that is never closed stays.
    """
    for start, end in _REASONING_TAGS:
        while (shorter := _without_blocks(text, start, end)) != text:
            text = shorter
        if end in text and start not in text:
            text = text.rpartition(end)[2]
    return text.strip()


def _without_blocks(text: str, start: str, end: str) -> str:
    kept, place = [], 0
    while (opened := text.find(start, place)) >= 0 and (closed := text.find(end, opened)) >= 0:
        kept.append(text[place:opened])
        place = closed + len(end)
    return "".join((*kept, text[place:]))


def lmms_eval_longvideobench_option(text: str) -> int | None:
    """LongVideoBench as lmms-eval counts it: :func:`longvideobench_option` of the text without its reasoning."""
    return longvideobench_option(without_reasoning(text))


def lmms_eval_option(text: str, letters: str = "ABCD") -> int | None:
    """By the order of forms of lmms-eval 0.7's ``extract_mcq_answer``; MLVU, Video-MME and LVBench are read so there.

    :func:`without_reasoning` comes first. A letter at the start, at the end, after "answer is" and the like, ``(A)``,
    ``A.``, ``A:``, ``A)``, ``A`` before a space, or anywhere: the first of these forms that occurs decides, and in it
    the last place. Only at the start and at the end must the letter stand alone, so "Based on (C)" is C and "VHS tapes"
    is nothing, but "DNA shows" is A.
    """
    words = without_reasoning(text)
    for mark in _STRIPPED_FIRST:
        words = words.strip(mark)
    found = _stated(f" {words} ", letters)
    if not found:
        found = [(0, words.rfind(letter), letter) for letter in letters if letter in words]
    # Ties go to the earlier letter: the script sorts stably over the letters in order.
    return _index(max(found, key=lambda each: each[:2])[2]) if found else None


def _stated(words: str, letters: str) -> list[tuple[int, int, str]]:
    """Rank of the form, place and letter of every statement."""
    found = [
        (rank, words.rfind(form.format(letter)), letter)
        for rank, form in _FORMS
        for letter in letters
        if form.format(letter) in words
    ]
    lowered = words.lower()
    for phrase in _LMMS_EVAL_PHRASES:
        place = lowered.find(phrase)
        if place >= 0:
            after = [(letter, words.find(letter, place + len(phrase))) for letter in letters]
            found.extend((_PHRASE, there, letter) for letter, there in after if there >= 0)
    bare = words.strip()
    for letter in letters:
        if bare.startswith(letter) and not bare[1:2].isalpha():
            found.append((_START, 0, letter))
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            found.append((_END, len(words) - 1, letter))
    return found


def _first_letter(text: str, phrases: Sequence[str], letters: str) -> int | None:
    for phrase in phrases:
        text = text.replace(phrase, "")
    found = re.search(f"[{letters}]", text)
    return _index(found[0]) if found else None


def _index(letter: str) -> int | None:
    return OPTION_LETTERS.index(letter) if len(letter) == 1 and letter in OPTION_LETTERS else None
