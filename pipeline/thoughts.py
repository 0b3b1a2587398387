"""Splits what a model wrote into thoughts and answer: reasoning models weigh other options before they decide.

The marks around thoughts differ by model family. Those in :data:`_FAMILIES` are known, with variants of case and white
space. A mark that is quoted or named in a sentence ("the sign reads '<think>'", "the <think> tag") is a word like any
other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class _Family:
    """How the thoughts of some models begin and end, as patterns."""

    name: str
    """Families of one name end one another's thoughts."""
    opens: str
    closes: str
    needs_end: bool = False
    """The beginning counts only if an end follows: it may be an ordinary word."""
    needs_beginning: bool = False
    """The end counts only in a thought: it has other uses."""


def _tag(name: str, words: str) -> _Family:
    """``<think>``, ``</think>``; with attributes, a prefix (``<mm:think>``), as entities, in any case; ``<think/>``."""
    prefix = r"(?:[a-z0-9.]{1,16}:|(?:longcat|chain[_-]of|inner|internal|deep|model|assistant|hidden)[_-])?"
    suffix = r"(?:[_-](?:process|block|content|trace|text|steps?|budget_reflect))?"
    attributes = r"""(?:\s{1,3}[\w:-]{1,30}=(?:"[^"<>]{0,80}"|'[^'<>]{0,80}'|[^\s<>"'/]{1,80})){0,3}"""
    begin, end = rf"(?:<|&lt;)\s{{0,3}}{prefix}(?:{words}){suffix}{attributes}\s{{0,3}}", "(?:>|&gt;)"
    closing = rf"(?:<|&lt;)\s{{0,3}}\\?/\s{{0,3}}{prefix}(?:{words}){suffix}\s{{0,3}}{end}"
    return _Family(name, rf"(?i:{begin}{end})", rf"(?i:{closing}|{begin}/{end})")


_PIPE = r"(?:think(?:ing)?|thoughts?|reasoning|analysis)"
_CHANNEL = r"(?:<\|start\|>\s?(?:assistant)?\s?)?<\|channel\|>\s?"
_MESSAGE = r"(?:[^<\n]{0,80}<\|message\|>)?"
_ANSWERING = r"(?:final|response|answer)\b"

_FAMILIES = (
    # Qwen, GLM, DeepSeek, InternVL, Kimi-K2, MiniMax (mm:), Seed (seed:), LongCat, EXAONE and most others.
    _tag("think", "(?:re)?think(?:ing)?|thoughts?|cot|\u601d\u8003"),
    # Keye, and models that were trained to show their reasoning as XML.
    _tag("analysis", "analysis"),
    _tag("reasoning", "reason(?:ing)?"),
    _tag("reflection", "reflect(?:ion)?|scratchpad|monologue"),
    # Magistral. Small letters in brackets may be a stage direction.
    _Family("think", r"\[(?:THINK|THINKING)\]", r"\[/(?:THINK|THINKING)\]"),
    _Family("think", r"(?i:\[\s?think(?:ing)?\s?\])", r"(?i:\[\s?/\s?think(?:ing)?\s?\])", needs_end=True),
    # Kimi-VL.
    _Family("think", r"(?i:\u25c1\s?think\s?\u25b7)", r"(?i:\u25c1\s?/\s?think\s?\u25b7)"),
    # <|begin_of_thought|>, <|START_THINKING|> (Command A), <|think_start|>, <|think|>; <|inner_prefix|> (Apertus).
    _Family(
        "think",
        rf"(?i:<\|\s?(?:(?:begin|start)_(?:of_)?)?{_PIPE}(?:_(?:start|begin))?\s?\|>)|<\|inner_prefix\|>",
        rf"(?i:<\|\s?(?:/|end_(?:of_)?){_PIPE}\s?\|>|<\|{_PIPE}_end\|>)|<\|inner_suffix\|>",
    ),
    # MedGemma.
    _Family("think", r"<unused94>(?:thought\b)?", r"<unused95>"),
    # gpt-oss, and what is left of its marks where a server leaves out special tokens.
    _Family("channel", rf"{_CHANNEL}(?!{_ANSWERING})\w{{1,20}}{_MESSAGE}", rf"{_CHANNEL}{_ANSWERING}{_MESSAGE}"),
    _Family("channel", r"\A\s{0,9}analysis(?=[A-Z])", "assistantfinal"),
    _Family("channel", r"(?!)", r"<\|end\|>", needs_beginning=True),
    # Gemma 4, likewise.
    _Family("channel", rf"<\|channel>\s?(?!{_ANSWERING})\w{{0,20}}", rf"<channel\|>|<\|channel>\s?{_ANSWERING}"),
    _Family("channel", r"\A\s{0,9}thought\n", r"(?!)"),
    # Granite 3.2.
    _Family("granite", r"\A\s{0,9}Here is my thought process:", "Here is my response:", needs_beginning=True),
)
_MARK = re.compile(
    "|".join(f"(?P<closes_{i}>{one.closes})|(?P<opens_{i}>{one.opens})" for i, one in enumerate(_FAMILIES))
)

_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb", "\u300c": "\u300d"}
_NAMED_BEFORE = re.compile(
    r"\b(?:the|an?|this|that|opening|closing|tags?|tokens?|marks?|markers?|words?|text|string|symbol|sign|label"
    r"|sa(?:ys?|id|ying)|reads?|show(?:s|n|ing)?|writ(?:es?|ing|ten)|wrote|displays?|types?|typed|prints?|called|named"
    r"|contain(?:s|ing)?|with|like) $",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"[ .,;:!?)]|\Z")
_NAMED_AFTER = re.compile(r" (?:tags?|tokens?|marks?|markers?|symbols?|elements?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Split:
    """One output of a model. Every character that is not white space is in the answer or in the thought."""

    parts: tuple[str, ...]
    """The texts outside of thoughts, in order: mostly one, which follows the thought. The white space between a thought
    and a text is left out."""
    thought: str
    """The thoughts with their marks, word for word; empty if they ended and there is nothing between their marks."""
    is_open: bool
    """A thought was begun and not ended: the answer did not come."""

    @property
    def answer(self) -> str:
        """All that is not a thought."""
        return "".join(self.parts)


@dataclass(frozen=True)
class _Mark:
    start: int
    end: int
    family: _Family
    opens: bool


def split_thoughts(text: str, *, is_begun: bool = False) -> Split:
    """Split an output into thoughts and answer.

    The answer is what is outside of thoughts. An end without a beginning makes all that is before it a thought, because
    many chat templates write the beginning into the prompt; only a last one with nothing after it is ignored where a
    thought has ended before. An end closes the thoughts that were opened since its own beginning.

    Args:
        text: the output as it came; with its special tokens, where they can be had.
        is_begun: the prompt ends inside a thought, as :func:`leaves_thought_open` says.
    """
    marks = _marks(text)
    nothing_behind = _nothing_behind(text, marks)
    within = ["think"] if is_begun else []
    thoughts: list[tuple[int, int]] = []
    begin = 0
    for mark in marks:
        name = mark.family.name
        if mark.opens:
            if not within:
                begin = mark.start
            if name not in within:
                within.append(name)
        elif within:
            # An end of another family than all that are open ends them all: models mix marks up.
            del within[within.index(name) if name in within else 0 :]
            if not within:
                thoughts.append((begin, mark.end))
        elif mark.family.needs_beginning:
            continue
        elif thoughts and mark.start >= nothing_behind:
            thoughts.append((mark.start, mark.end))
        else:
            thoughts = [(0, mark.end)]
    if within:
        thoughts.append((begin, len(text)))
    return Split(_outside(text, thoughts), _inside(text, thoughts, is_open=bool(within)), is_open=bool(within))


def leaves_thought_open(prompt: str) -> bool:
    """Whether a rendered prompt, or the last part of one, ends inside a thought that the model goes on with.

    Only a mark at the very end counts, as templates write it: the question before it may hold any words. An empty pair
    of marks, by which templates switch thoughts off, is not an open thought.
    """
    marks = _marks(prompt)
    return bool(marks) and marks[-1].opens and not prompt[marks[-1].end :].strip()


def closes_thought(prompt: str) -> bool:
    """Whether a rendered prompt ends with a thought that is closed already, as templates switch thinking off."""
    marks = _marks(prompt)
    return bool(marks) and not marks[-1].opens and not prompt[marks[-1].end :].strip()


def opens_a_thought(token: str) -> bool:
    """Whether a token of a vocabulary, by itself, begins a thought."""
    return _is_mark(token, opens=True)


def ends_a_thought(token: str) -> bool:
    """Whether a token of a vocabulary, by itself, ends a thought."""
    return _is_mark(token, opens=False)


def _is_mark(token: str, *, opens: bool) -> bool:
    match = _MARK.fullmatch(token)
    return match is not None and _mark(match).opens is opens


def _marks(text: str) -> list[_Mark]:
    found = [_mark(match) for match in _MARK.finditer(text) if not _is_word(text, match)]
    last_end = {mark.family: mark.start for mark in found if not mark.opens}
    return [
        mark
        for mark in found
        if not (mark.opens and mark.family.needs_end) or last_end.get(mark.family, -1) > mark.start
    ]


def _mark(match: re.Match[str]) -> _Mark:
    kind, _, number = (match.lastgroup or "").rpartition("_")
    return _Mark(match.start(), match.end(), _FAMILIES[int(number)], kind == "opens")


def _is_word(text: str, match: re.Match[str]) -> bool:
    """Whether a sentence speaks of the mark."""
    start, end = match.span()
    before, after = text[max(0, start - 12) : start], text[end : end + 12]
    if before and after and _QUOTES.get(before[-1]) == after[0]:
        return True
    return bool(_NAMED_AFTER.match(after) or (_NAMED_BEFORE.search(before) and _GOES_ON.match(after)))


def _nothing_behind(text: str, marks: Sequence[_Mark]) -> int:
    """From where on there are only marks and white space."""
    end = len(text.rstrip())
    for mark in reversed(marks):
        if mark.end < end:
            break
        end = mark.start
        while end and text[end - 1].isspace():
            end -= 1
    return end


def _outside(text: str, thoughts: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    if not thoughts:
        return (text,)
    starts, ends = [0, *(end for _, end in thoughts)], [*(start for start, _ in thoughts), len(text)]
    first, *after = (text[start:end] for start, end in zip(starts, ends, strict=True))
    return tuple(part for part in (first, *(each.lstrip() for each in after)) if part.strip())


def _inside(text: str, thoughts: Sequence[tuple[int, int]], *, is_open: bool) -> str:
    written = (text[start:end].strip() for start, end in thoughts)
    return "\n".join(each for each in written if is_open or _MARK.sub("", each).strip())
