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
from pipeline.wellformed import loaded

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
_VIDEO_MME_V2_PHRASES = (
    "Final Answer:",
    *("The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option is", "The correct option is"),
    *("Best answer:", "Best option:", "Answer:", "Option:"),
)
WRONG = -1
"""In place of an option: the rule has read something that is no option and counts as wrong."""


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


def video_mme_v2_option(text: str) -> int | None:
    """The first of A to H anywhere, after the stock phrases are deleted (Video-MME-v2, ``test_video_mme_v2.py``).

    "Based on ... Final Answer: G" is B. VLMEvalKit reads by the same rule.
    """
    return _first_letter(text, _VIDEO_MME_V2_PHRASES, "ABCDEFGH")


def cgbench_option(text: str, correct: int | None) -> int | None:
    """The ``result`` of a fenced JSON object; without one, the right option if its letter stands alone anywhere.

    So naming all options is right (CG-Bench, ``run/utils.py``). A result that is no letter is :data:`WRONG`. Of a text
    without JSON and without a lone capital A to H the script keeps no row.
    """
    fenced = re.search("```json(.*?)```", text, re.DOTALL)
    if fenced is not None and fenced[1].strip():
        # The script puts quotes around a bare word: {"result": B}.
        quoted = re.sub(r"(:\s)([A-Za-z_]\w*)", r'\1"\2"', fenced[1].strip())
        try:
            found = loaded(quoted)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and found.get("result") is not None:
            said = found["result"]
            option = _index(said) if isinstance(said, str) else None
            return WRONG if option is None else option
    letters = re.findall(r"\b[A-H]\b", text)
    if not letters:
        return None
    return correct if correct is not None and OPTION_LETTERS[correct] in letters else WRONG


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


def lmms_eval_cgbench_option(text: str) -> int | None:
    """CG-Bench as lmms-eval reads it: :func:`lmms_eval_option` over A to N."""
    return lmms_eval_option(text, OPTION_LETTERS[:14])


def lmms_eval_video_mme_v2_option(text: str, options: Sequence[str]) -> int | None:
    """Video-MME-v2 as lmms-eval 0.7.3 reads it (``tasks/videomme_v2/utils.py``), which is not as the authors do.

    The first of these that applies decides: a letter A to H alone on the last line; one alone at the start, before a
    full stop, a bracket or a line's end; the last one after a stock phrase, "answer is" or "option:"; the only one in
    bold; the only option whose words are in the text. Capitals do not matter.
    """
    words = without_reasoning(text)
    bold = r"(?:\*\*[ \t]*)?([A-H])(?:[ \t]*\*\*)?[ \t]*"
    for alone in (rf"(?:\A|\n)[ \t]*{bold}[.)]?[ \t]*\n?\Z", rf"\A[ \t]*{bold}(?:[.)]|\r?\n|\Z)"):
        if found := re.search(alone, words, re.IGNORECASE):
            return _index(found[1].upper())
    phrases = "|".join(map(re.escape, _VIDEO_MME_V2_PHRASES))
    after = rf"(?:{phrases}|\b(?:answer|option)(?:\s+(?:is|would\s+be)|\s*:))[\s:*]*([A-H])\b"
    if stated := re.findall(after, words, re.IGNORECASE):
        return _index(stated[-1].upper())
    marked = {letter.upper() for letter in re.findall(r"\*\*\s*([A-H])(?=\s*\*\*|[.)])", words, re.IGNORECASE)}
    if len(marked) == 1:
        return _index(marked.pop())
    told = [place for place, option in enumerate(options) if option.strip(". \n").lower() in words.lower()]
    return told[0] if len(told) == 1 else None


def lmms_eval_egoschema_option(text: str, options: Sequence[str]) -> int | None:
    """EgoSchema as lmms-eval reads it: ``(A)``, ``A`` before a space, or ``A.``, wherever it stands.

    So the article in "A man walks" is option A. Of several letters it takes the one whose last place is the earliest.
    Without any, in a text of more than five words, an option's words with its letter before them count. If there is
    none, it draws one of the options at random; that is left to the caller.
    """
    words = without_reasoning(text)
    for mark in ",.!?;:'":
        words = words.strip(mark)
    words = f" {words} "
    forms = [(form.format(letter), letter) for form in ("({})", "{} ", "{}.") for letter in "ABCDE"]
    places = [(words.rfind(form), letter) for form, letter in forms if form in words]
    if not places and len(words.split()) > 5:
        labelled = [(f"{letter}. {option}".lower(), letter) for letter, option in zip("ABCDE", options, strict=False)]
        places = [(words.lower().rfind(option), letter) for option, letter in labelled if option in words.lower()]
    return _index(min(places, key=lambda place: place[0])[1]) if places else None


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
