"""Ways in which words point at an option: each reading gives the set of options, or letters, that it finds.

A set of one decides, a larger one contradicts itself, an index that no option has is a letter beyond the options or a
list that goes on for too long, and an empty set means that this reading does not apply. ``words`` are as :func:`plain`
gives them, ``choices`` the options as :func:`bare_option` gives them.
:func:`pipeline.answerers.options.read_option` puts the readings in order.

Every reading takes time linear in the length of the words, also of a model that repeats itself up to its limit:
:func:`plain` leaves no run of white space, so that no pattern can divide one in many ways; patterns look ahead from a
place in the words instead of at a copy of the rest; and lists are followed for a bounded number of members.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from pipeline.domain import OPTION_LETTERS

NOTHING: frozenset[int] = frozenset()
UNREADABLE: frozenset[int] = frozenset({-1})
_LONGEST_LIST = 30
"""Members of a list of options, as in "A, B or C". No question has as many options."""

# A letter standing alone: not part of a word, a contraction, a grade, "U.S." or "T-shirt".
_ALONE = r"(?P<bare>[A-Za-z])(?![A-Za-z0-9+#&%]|'[A-Za-z]|\.[A-Za-z]\.|-\w)"
_BARE = rf"(?<![A-Za-z0-9])(?<!\w'){_ALONE}"
_BRACKETED = r"[\(\[\{<]\s*(?P<bracketed>[A-Za-z])\s*(?:[\)\]\}>]|$)"
_LABEL = re.compile(
    r"\s*[\"']?(?i:(?:the\s+)?(?:option|choice|letter)\s*:?\s*)?"
    rf"(?:{_BRACKETED}|(?<![A-Za-z0-9]){_ALONE})[\"']?"
)
_AFTER_LABEL = re.compile(
    r"\s*(?:$|</answer>|[.,:;!?)\]}\n\"/]|[-\u2013\u2014]\s|(?i:because|since|as|is|due|or|and)\b)"
)
_ALTERNATIVE = re.compile(
    rf"\s*[.)\]]?\s*(?:,|/|&|\+|(?i:or|and|nor)\b|(?=[(\[]))\s*(?i:option\s+)?(?:{_BRACKETED}|{_BARE})"
)
_JOINED = re.compile(r"[\s\"']*(?:,|/|&|(?i:or|and)\b)\s*")
_DENIED_AFTER = re.compile(
    r"[\s\"']*(?i:(?:is|was|are)\s+(?:not|wrong|incorrect|false)|(?:is|does)n't|does not|can(?:no|')t)\b"
)
_DENIED_BEFORE = re.compile(
    r"(?i:\bnot|n't|\bneither|\bnor|\bthan|\bexcept|\binstead of)\s{1,3}(?:the\s)?(?:option\s)?$"
)
_ARTICLE = re.compile(r"\s*[\"']?(?:(?i:the|an|a)\s+)?")
_LONE_LABEL = re.compile(r"\s*[\"'(\[]?([A-Za-z])[\"')\].]*\s*(?:$|\n|</answer>)")
_MENTION = re.compile(rf"(?<!\w)(?:[\(\[](?P<letter>[A-Za-z])[\)\]]|(?i:option|choice|letter)\s+{_BARE})")
_WHOLE_LETTER = re.compile(r"[\W_]*+(?:(?i:option|choice|letter)[\W_]*+)?([A-Za-z])[\W_]*+")
_BULLET = re.compile(r"\s*[-\u2022>]\s+")

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

_ANSWER_BEGINS = re.compile(
    r"(?i:<\|(?:begin_of_(?:box|solution)|start_response|content)\|>"
    r"|<\s{0,3}(?:answer|final_answer|final|response|conclusion|solution|output)\s{0,3}>)"
)
"""GLM's box, ``<|START_RESPONSE|>``, ``<answer>`` and the like: what follows is the answer."""
_ANSWER_ENDS = re.compile(
    r"(?i:<\|(?:end_of_(?:box|solution)|end_response)\|>"
    r"|<\s{0,3}/\s{0,3}(?:answer|final_answer|final|response|conclusion|solution|output)\s{0,3}>)"
)
_CONTROL = re.compile(r"<\|[^<>|\s]{1,40}\|>|</s>|<end_of_turn>")
_TAG = re.compile(r"<(/?)([a-z][a-z0-9]{0,9})\b[^<>]{0,100}>", re.IGNORECASE)
_MARKDOWN = re.compile(r"[*`$]|__")
_SPACES = re.compile(r"\s+")


def plain(text: str) -> str:
    """One alphabet, straight quotes, single spaces and line breaks; no markdown, HTML, control tokens or fence."""
    text = unicodedata.normalize("NFKC", _few_accents(text)).replace("\u2019", "'").replace("\u2018", "'")
    text = text.replace("\u201c", '"').replace("\u201d", '"')
    if "<" in text:
        text = _ANSWER_ENDS.sub("</answer>", _ANSWER_BEGINS.sub("<answer>", text))
        text = _without_tags(_CONTROL.sub("", text))
    text = _MARKDOWN.sub("", unfenced(text)).strip()
    return _SPACES.sub(lambda run: "\n" if len(f"{run[0]}.".splitlines()) > 1 else " ", text)


def unfenced(text: str) -> str:
    """The text without the markdown code fence around it."""
    text = text.strip()
    return re.sub(r"^```\w*|```$", "", text).strip()


def _few_accents(text: str) -> str:
    """At most 30 accents on a letter: normalising takes time with the square of their number.

    30 is the bound of the stream-safe text format (Unicode Standard Annex 15).
    """
    if text.isascii():
        return text
    kept, run = [], 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run <= 30:
            kept.append(character)
    return "".join(kept)


def _without_tags(text: str) -> str:
    """Without HTML elements that are closed somewhere: ``<b>C</b>`` is C, and ``<B>`` alone is B in brackets."""
    elements = {match[2].casefold() for match in _TAG.finditer(text) if match[1]} - {"answer"} | {"br"}
    return _TAG.sub(lambda tag: " " if tag[2].casefold() in elements else tag[0], text)


def bare_option(index: int, option: str) -> str:
    """The option's words, without a label of its own (``A. red`` as the first option is ``red``)."""
    words = _key(option)
    own = re.match(rf"\(?{OPTION_LETTERS[index].lower()}[.):]\s*(?=\w)", words)
    return words[own.end() :] if own else words


def _key(text: str) -> str:
    """Words for comparison: case, runs of spaces and punctuation around them do not matter."""
    return _SPACES.sub(" ", plain(text)).casefold().strip(" .,:;!?\"'")


def whole(words: str, choices: Sequence[str]) -> frozenset[int]:
    """The whole text is a letter, or the text of one option."""
    letter = _WHOLE_LETTER.fullmatch(words)
    # The prompt asks for a letter, so "B" is option B even where another option's text is "B".
    if letter and not re.search(r"[+#&%]", words) and _index(letter[1]) < len(choices):
        return frozenset({_index(letter[1])})
    key = _key(words)
    without_article = key[_article_end(key, 0) :]
    same = frozenset(i for i, choice in enumerate(choices) if choice and choice == key)
    return same or frozenset(i for i, choice in enumerate(choices) if choice and choice == without_article)


def following(phrase: re.Pattern[str], words: str, choices: Sequence[str]) -> frozenset[int]:
    """What follows a phrase that announces an answer: a letter or the text of an option."""
    found = NOTHING
    for match in phrase.finditer(words):
        found |= _leading_options(words, match.end(), choices) or _leading_labels(
            words, match.end(), choices, stated=True
        )
        if len(found) > 1:
            break
    return found


def line_heads(words: str, choices: Sequence[str]) -> frozenset[int]:
    """Letters marked as labels at the heads of lines."""
    found = NOTHING
    for line in words.split("\n"):
        bullet = _BULLET.match(line)
        if head := _leading_labels(line, bullet.end() if bullet else 0, choices, stated=False):
            found |= head | _listed(line, choices)
        if len(found) > 1:
            break
    return found


def mentions(words: str, choices: Sequence[str]) -> frozenset[int]:
    """Letters in brackets, or after "option", that are not denied."""
    found = NOTHING
    for match in _MENTION.finditer(words):
        letter = match["letter"] or match["bare"]
        if (match["letter"] or letter.isupper()) and not _denied(words, match.start(), match.end()):
            found |= {_index(letter)}
    return found


def statement(words: str, choices: Sequence[str]) -> frozenset[int]:
    """Options whose text occurs in a single sentence without denial."""
    if re.search(r"[.!?\n]\s*\S", words) or _NEGATION.search(words):
        return NOTHING
    text = _key(words)
    spans: dict[tuple[int, int], set[int]] = {}
    for i, choice in enumerate(choices):
        if _is_phrase(choice):
            for match in _standing(choice).finditer(text):
                spans.setdefault((match.start(), -match.end()), set()).add(i)
    found: set[int] = set()
    reached = 0
    # A span within a longer one is a part of another option: the longer ones come first here.
    for start, minus_end in sorted(spans):
        if -minus_end > reached:
            found |= spans[start, minus_end]
            reached = -minus_end
    return frozenset(found)


def _listed(line: str, choices: Sequence[str]) -> frozenset[int]:
    """Options repeated in a line with their labels, as in "A. red B. blue": a list is not a decision."""
    return frozenset(i for i, choice in enumerate(choices) if choice and _labelled(i, choice).search(line))


def _leading_options(words: str, place: int, choices: Sequence[str]) -> frozenset[int]:
    """Options whose text begins at a place, with an article or without; joined by "or" they are two."""
    found = NOTHING
    for _ in range(_LONGEST_LIST):
        if _lone_label(words, place, choices):
            return found
        ends = [
            (match.end(), i)
            for lead in sorted({place, _article_end(words, place)})
            for i, choice in enumerate(choices)
            if _is_phrase(choice) and (match := _beginning(choice).match(words, lead))
        ]
        if not ends:
            return found
        end = max(ends)[0]
        found |= {i for stop, i in ends if stop == end}
        joined = _JOINED.match(words, end)
        if joined is None:
            return found
        place = joined.end()
    return UNREADABLE


def _article_end(words: str, place: int) -> int:
    match = _ARTICLE.match(words, place)
    return match.end() if match else place


def _lone_label(words: str, place: int, choices: Sequence[str]) -> bool:
    letter = _LONE_LABEL.match(words, place)
    return letter is not None and _index(letter[1]) < len(choices)


def _leading_labels(words: str, place: int, choices: Sequence[str], *, stated: bool) -> frozenset[int]:
    """Letters that are a label at a place. ``stated``: they follow a phrase that announces an answer."""
    label = _LABEL.match(words, place)
    if label is None or _DENIED_AFTER.match(words, label.end()):
        return NOTHING
    letter = label["bracketed"] or label["bare"]
    if label["bare"] and not _is_label(letter, words, label.end(), choices, stated=stated):
        return NOTHING
    found, end = frozenset({_index(letter)}), label.end()
    for _ in range(_LONGEST_LIST):
        other = _ALTERNATIVE.match(words, end)
        if other is None:
            return found
        bare = other["bare"]
        if bare and not (_AFTER_LABEL.match(words, other.end()) and (bare.isupper() or letter.islower())):
            return found
        found |= {_index(bare or other["bracketed"])}
        end = other.end()
    return UNREADABLE


def _is_label(letter: str, words: str, end: int, choices: Sequence[str], *, stated: bool) -> bool:
    """Whether a bare letter that ends at ``end`` labels an option rather than being the word "a" or "I"."""
    marked = _AFTER_LABEL.match(words, end)
    if letter.islower():
        return marked is not None and not re.compile(r"\s*(?i:[a-z])").match(words, end)
    if marked:
        return True
    own = choices[_index(letter)] if _index(letter) < len(choices) else ""
    if own and _own_text(own).match(words[end : end + 2 * len(own) + 8].casefold()):
        # "A red circle" is option A only if no other option is itself "a red circle".
        return _key(f"{letter} {own}") not in choices
    return stated and letter not in "AI" and not re.compile(r"\s+[A-Z]\b").match(words, end)


@lru_cache(1024)
def _standing(choice: str) -> re.Pattern[str]:
    """An option's text as whole words: ``12`` is not in "12.5", nor ``red`` in "red-brown"."""
    return re.compile(rf"(?<![\w-]){_text(choice)}", re.IGNORECASE)


@lru_cache(1024)
def _beginning(choice: str) -> re.Pattern[str]:
    return re.compile(rf"[\s\"']*{_text(choice)}", re.IGNORECASE)


@lru_cache(1024)
def _labelled(index: int, choice: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w']){OPTION_LETTERS[index]}[.):]+\s*{_text(choice)}", re.IGNORECASE)


@lru_cache(1024)
def _own_text(choice: str) -> re.Pattern[str]:
    return re.compile(rf"\s*{_text(choice)}\s*(?:$|</answer>|[.,:;!?)\n])")


def _text(choice: str) -> str:
    return rf"{re.escape(choice).replace(chr(92) + ' ', ' +')}(?![\w-]|[.,:]\d)"


def _denied(words: str, start: int, end: int) -> bool:
    return bool(_DENIED_BEFORE.search(words[max(0, start - 40) : start]) or _DENIED_AFTER.match(words, end))


def says_undecided(words: str, choices: Sequence[str]) -> bool:
    """Whether the text says that it cannot decide, and no option says the same."""
    return _UNDECIDED.search(words) is not None and not any(_UNDECIDED.search(choice) for choice in choices)


def _index(letter: str) -> int:
    return OPTION_LETTERS.index(letter.upper())


def _is_phrase(choice: str) -> bool:
    """Whether an option's text can be told from a label or an article inside a sentence."""
    return bool(choice) and not re.fullmatch(r"[a-z]", choice)
