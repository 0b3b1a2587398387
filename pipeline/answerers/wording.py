"""Ways in which words point at an option: each reading gives the set of options, or letters, that it finds.

A set of one decides, a larger one contradicts itself, an index beyond the options is a letter that no option has, and
an empty set means that this reading does not apply. ``words`` are as :func:`plain` gives them, ``choices`` the options
as :func:`bare_option` does. :func:`pipeline.answerers.options.read_option` puts them in order.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from pipeline.domain import OPTION_LETTERS

NOTHING: frozenset[int] = frozenset()

# A letter standing alone: not part of a word, a contraction, a grade, "U.S." or "T-shirt".
_BARE = r"(?<![A-Za-z0-9])(?<!\w')(?P<bare>[A-Za-z])(?![A-Za-z0-9+#&%]|'[A-Za-z]|\.[A-Za-z]\.|-\w)"
_BRACKETED = r"[\(\[\{<]\s*(?P<bracketed>[A-Za-z])\s*(?:[\)\]\}>]|$)"
_LABEL = re.compile(rf"\s*[\"']?(?i:(?:the\s+)?(?:option|choice|letter)\s*:?\s*)?(?:{_BRACKETED}|{_BARE})[\"']?")
_AFTER_LABEL = re.compile(r"\s*(?:$|[.,:;!?)\]}\n\"/]|[-\u2013\u2014]\s|(?i:because|since|as|is|due|or|and)\b)")
_ALTERNATIVE = re.compile(
    rf"\s*[.)\]]?\s*(?:,|/|&|\+|(?i:or|and|nor)\b|(?=[(\[]))\s*(?i:option\s+)?(?:{_BRACKETED}|{_BARE})"
)
_DENIED_AFTER = re.compile(
    r"[\s\"']*(?i:(?:is|was|are)\s+(?:not|wrong|incorrect|false)|(?:is|does)n't|does not|can(?:no|')t)\b"
)
_DENIED_BEFORE = re.compile(
    r"(?i:\bnot|n't|\bneither|\bnor|\bthan|\bexcept|\binstead of)\s{1,3}(?:the\s)?(?:option\s)?$"
)
_ARTICLE = re.compile(r"\s*[\"']?(?:(?i:the|an|a)\s+)?")

_IS = (
    r"(?:\s*[\"']?\s*(?:\b(?:is|was|would be|should be|must be|seems to be|appears to be)\b"
    r"|\b(?:definitely|clearly|probably|likely)\b|[:=]|->))*"
)
_OF_WHAT = r"(?:\s+(?:to|for)\b[^.\n:]{0,100}?(?=\s+is\b))?"
_ANSWER = rf"\b(?:answer|(?:best|correct|right|chosen|final)\s+(?:option|choice))\b{_OF_WHAT}{_IS}"
FINAL = re.compile(rf"(?i:\bfinal\s+{_ANSWER}|\\boxed\s*\{{(?:\\text\s*\{{)?|<answer>)")
DECIDED = re.compile(
    rf"(?i:{_ANSWER}|\u7b54\u6848(?:\u662f|\u4e3a|:)?|\u9009(?:\u62e9|\u9879)?"
    r"|\bI(?:'d|'ll| would| will)?\s+(?:choose|pick|select|say|go with)\b)"
)
LEANING = re.compile(
    r"(?i:\b(?:it|this|that)(?:'s|\s+(?:is|must be|would be|should be|has to be))(?!\w)"
    r"|(?:^|[.\n])\s*(?:therefore|thus|hence|so)\b,?)"
)
_CANNOT = r"(?:cannot|can't|can not|could not|couldn't|unable to|impossible to|not possible to|hard to)"
_UNDECIDED = re.compile(
    rf"(?i:\b{_CANNOT}\b[^.]{{0,20}}\b(?:determin|tell|say|answer|know|see|identif|decide)|\bcannot be\b"
    r"|\b(?:don't|do not) know\b|\bnot enough\b|\binsufficient\b|\bunclear\b|\bnone of the\b|\bnot sure\b"
    r"|\bno (?:information|answer)\b)"
)
_NEGATION = re.compile(r"(?i:\b(?:not|neither|nor|except|without|never)\b|n't\b)")


def plain(text: str) -> str:
    """One alphabet, straight quotes, no markdown emphasis, no fence."""
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'")
    text = text.replace("\u201c", '"').replace("\u201d", '"')
    return re.sub(r"[*`$]|__", "", unfenced(text)).strip()


def unfenced(text: str) -> str:
    """The text without the markdown code fence around it."""
    text = text.strip()
    return re.sub(r"^```\w*|```$", "", text).strip()


def bare_option(index: int, option: str) -> str:
    """The option's words, without a label of its own (``A. red`` as the first option is ``red``)."""
    words = _key(option)
    own = re.match(rf"\(?{OPTION_LETTERS[index].lower()}[.):]\s*(?=\w)", words)
    return words[own.end() :] if own else words


def _key(text: str) -> str:
    """Words for comparison: case, runs of spaces and punctuation around them do not matter."""
    return re.sub(r"\s+", " ", plain(text)).casefold().strip(" .,:;!?\"'")


def whole(words: str, choices: Sequence[str]) -> frozenset[int]:
    """The whole text is a letter, or the text of one option."""
    letter = re.fullmatch(r"[\W_]*(?i:option|choice|letter)?[\W_]*([A-Za-z])[\W_]*", words)
    # The prompt asks for a letter, so "B" is option B even where another option's text is "B".
    if letter and not re.search(r"[+#&%]", words) and _index(letter[1]) < len(choices):
        return frozenset({_index(letter[1])})
    without_article = _key(words)[len(_ARTICLE.match(_key(words))[0]) :]  # type: ignore[index]
    same = frozenset(i for i, choice in enumerate(choices) if choice and choice == _key(words))
    return same or frozenset(i for i, choice in enumerate(choices) if choice and choice == without_article)


def following(phrase: re.Pattern[str], words: str, choices: Sequence[str]) -> frozenset[int]:
    """What stands after a phrase that announces an answer: a letter or the text of an option."""
    found = NOTHING
    for match in phrase.finditer(words):
        rest = words[match.end() :]
        found |= _leading_options(rest, choices) or _leading_labels(rest, choices, stated=True)
    return found


def line_heads(words: str, choices: Sequence[str]) -> frozenset[int]:
    """Letters marked as labels at the heads of lines."""
    found = NOTHING
    for line in words.splitlines():
        if head := _leading_labels(re.sub(r"^\s*[-\u2022>]\s+", "", line), choices, stated=False):
            found |= head | _listed(line, choices)
    return found


def mentions(words: str, choices: Sequence[str]) -> frozenset[int]:
    """Letters in brackets, or after "option", that are not denied."""
    found = NOTHING
    for match in re.finditer(rf"(?<!\w)(?:[\(\[]([A-Za-z])[\)\]]|(?i:option|choice|letter)\s+{_BARE})", words):
        letter = match[1] or match["bare"]
        if (match[1] or letter.isupper()) and not _denied(words, match.start(), match.end()):
            found |= {_index(letter)}
    return found


def statement(words: str, choices: Sequence[str]) -> frozenset[int]:
    """Options whose text stands in a single sentence without denial."""
    if re.search(r"[.!?\n]\s*\S", words) or _NEGATION.search(words):
        return NOTHING
    text = _key(words)
    spans = [
        (match.start(), match.end(), i)
        for i, choice in enumerate(choices)
        if _is_phrase(choice)
        for match in re.finditer(_standing(choice), text)
    ]
    return frozenset(
        i
        for start, end, i in spans
        if not any(s <= start and end <= e and (e - s) > (end - start) for s, e, _ in spans)
    )


def _listed(line: str, choices: Sequence[str]) -> frozenset[int]:
    """Options repeated in a line with their labels, as in "A. red B. blue": a list is no decision."""
    return frozenset(
        i
        for i, choice in enumerate(choices)
        if choice and re.search(rf"(?<![\w']){OPTION_LETTERS[i]}[.):]+\s*{_standing(choice)}", line, re.IGNORECASE)
    )


def _leading_options(rest: str, choices: Sequence[str]) -> frozenset[int]:
    """Options whose text the words begin with, with an article or without; joined by "or" they are two."""
    if _lone_label(rest, choices):
        return NOTHING
    best: list[tuple[int, int]] = []
    for lead in {0, _ARTICLE.match(rest).end()}:  # type: ignore[union-attr]
        for i, choice in enumerate(choices):
            if _is_phrase(choice) and (match := re.match(rf"[\s\"']*{_standing(choice)}", rest[lead:], re.IGNORECASE)):
                best.append((lead + match.end(), i))
    if not best:
        return NOTHING
    end = max(best)[0]
    found = frozenset(i for stop, i in best if stop == end)
    if joined := re.match(r"[\s\"']*(?:,|/|&|(?i:or|and)\b)\s*", rest[end:]):
        found |= _leading_options(rest[end + joined.end() :], choices)
    return found


def _lone_label(rest: str, choices: Sequence[str]) -> bool:
    letter = re.match(r"\s*[\"'(\[]?([A-Za-z])[\"')\].]*\s*(?:$|\n)", rest)
    return letter is not None and _index(letter[1]) < len(choices)


def _leading_labels(rest: str, choices: Sequence[str], *, stated: bool) -> frozenset[int]:
    """Letters that the words begin with as a label. ``stated``: they follow a phrase that announces an answer."""
    label = _LABEL.match(rest)
    if label is None or _DENIED_AFTER.match(rest, label.end()):
        return NOTHING
    letter = label["bracketed"] or label["bare"]
    if label["bare"] and not _is_label(letter, rest[label.end() :], choices, stated=stated):
        return NOTHING
    found, end = frozenset({_index(letter)}), label.end()
    while other := _ALTERNATIVE.match(rest, end):
        bare = other["bare"]
        if bare and not (_AFTER_LABEL.match(rest, other.end()) and (bare.isupper() or letter.islower())):
            break
        found |= {_index(bare or other["bracketed"])}
        end = other.end()
    return found


def _is_label(letter: str, tail: str, choices: Sequence[str], *, stated: bool) -> bool:
    """Whether a bare letter before ``tail`` labels an option rather than being the word "a" or "I"."""
    marked = _AFTER_LABEL.match(tail)
    if letter.islower():
        return marked is not None and not re.match(r"\s*(?i:[a-z])", tail)
    if marked:
        return True
    own = choices[_index(letter)] if _index(letter) < len(choices) else ""
    if own and re.match(rf"\s*{_standing(own)}\s*(?:$|[.,:;!?)\n])", tail.casefold()):
        # "A red circle" is option A only if no other option is itself "a red circle".
        return _key(f"{letter} {own}") not in choices
    return stated and letter not in "AI" and not re.match(r"\s+[A-Z]\b", tail)


def _standing(choice: str) -> str:
    """A pattern for an option's text as whole words: ``12`` is not in "12.5", nor ``red`` in "red-brown"."""
    return rf"(?<![\w-]){re.escape(choice).replace(chr(92) + ' ', ' +')}(?![\w-]|[.,:]\d)"


def _denied(words: str, start: int, end: int) -> bool:
    return bool(_DENIED_BEFORE.search(words[max(0, start - 40) : start]) or _DENIED_AFTER.match(words, end))


def says_undecided(words: str, choices: Sequence[str]) -> bool:
    """Whether the text says that it cannot tell, and no option says so."""
    return _UNDECIDED.search(words) is not None and not any(_UNDECIDED.search(choice) for choice in choices)


def _index(letter: str) -> int:
    return OPTION_LETTERS.index(letter.upper())


def _is_phrase(choice: str) -> bool:
    """Whether an option's text can be told from a label or an article inside a sentence."""
    return bool(choice) and not re.fullmatch(r"[a-z]", choice)
