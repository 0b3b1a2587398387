"""Which option a model's words mean, by one documented rule, and the answer that follows from it.

A reading is strict: words that name no option, or several without a decision between them, name none. Taking the first
capital letter, as some published scripts do, reads "Based on ..." as B, and a random choice for what cannot be read
makes a failure look like an answer. Neither happens here: such an answer is ``unparsed`` and counts as wrong. Thoughts
are not part of an answer (:mod:`pipeline.thoughts`).

Each reading gives the set of options, or letters, that words point at. A set of one decides, a larger one contradicts
itself, an index that no option has is a letter beyond the options or a list that goes on for too long, and an empty set
means that this reading does not apply. Its ``words`` are as :func:`_plain` gives them, its ``choices`` the options as
:func:`_bare_option` gives them.

Every reading takes time linear in the length of the words, also of a model that repeats itself up to its limit:
:func:`_plain` leaves no run of white space, so that no pattern can divide one in many ways; patterns look ahead from a
place in the words instead of at a copy of the rest; and lists are followed for a bounded number of members.

Whoever changes how a text is read raises :data:`pipeline.identity.READING_VERSION`.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from pipeline.answerers.intervals import read_intervals
from pipeline.domain import OPTION_LETTERS, Answer, AnswerForm, Cost, Question, Span, Status, option_letter
from pipeline.errors import with_remedy
from pipeline.thoughts import Split, split_thoughts
from pipeline.wellformed import loaded_object

_LOG = logging.getLogger(__name__)

_Reading = Callable[[str, Sequence[str]], frozenset[int]]

_NOTHING: frozenset[int] = frozenset()
_UNREADABLE: frozenset[int] = frozenset({-1})
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
_FINAL = re.compile(rf"(?i:\bfinal\s+{_ANSWER}|\\boxed\s*\{{(?:\\text\s*\{{)?|<answer>)")
_DECIDED = re.compile(
    rf"(?i:{_ANSWER}|\u7b54\u6848(?:\u662f|\u4e3a|:)?|\u9009(?:\u62e9|\u9879)?"
    r"|\bI(?:'d|'ll| would| will)?\s+(?:choose|pick|select|say|go with)\b)"
)
_LEANING = re.compile(
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

_DEEPEST_JSON = 100
_KEYS = (
    "final_answer",
    "answer",
    "result",
    "option",
    "choice",
    "letter",
    "best_option",
    "correct_option",
    "your_answer",
)
_WILL_NOT = (
    r"(?:(?:i|we)\s*(?:can't|cannot|can not|won't|will not|(?:am|are|'m|'re) (?:not able|unable) to"
    r"|(?:must )?decline to)"
    r"|sorry,?\s+(?:but\s+)?(?:can't|cannot))"
)
_REFUSAL = re.compile(
    r"(?i:^\W*(?:(?:(?:i'm|i am)\s+(?:very\s+|really\s+|so\s+)?(?:sorry|afraid)|sorry|i apologi[sz]e|unfortunately"
    rf"|as an ai)\b[^.\n]{{0,60}}?)?\b{_WILL_NOT}\s+"
    r"(?:assist|help|comply|answer|provide|discuss|identify|engage|fulfil|continue|do that|process|respond|make))"
)
_BOX = re.compile(r"<\|(?:begin|end)_of_box\|>")
"""GLM's marks around an answer: they decide which option is read, and are not part of what was said."""
_DOUBT = re.compile(
    r"(?i:\b(?:wait|hold on|hmm+|on second thought|look(?:ing)? again"
    r"|let(?:'s| me) (?:re-?(?:check|think|examine|consider|look|view)|double|check|look|think|verify|see))\b)"
)


def read_option(text: str, options: Sequence[str]) -> int | None:
    r"""The index of the option that ``text`` decides for, or None.

    Thoughts are left out first; a text whose thoughts do not end has no option. Of texts before and after a thought,
    the last one is read first, and all of them together if nothing can be read from it.

    The first of these readings that finds a letter or an option decides. If it finds two, or a letter beyond the
    options, there is no answer:

    1. a JSON object with a key such as ``answer``, its value read by this same rule;
    2. the whole text is a letter (``B``, ``(b)``, ``**B.**``) or one option's text, with or without article and quotes;
    3. what follows "final answer", ``\boxed{``, ``<answer>`` or ``<|begin_of_box|>``: a letter or an option's text;
    4. what follows "the answer is", "Answer:", "the best option is", "I choose";
    5. letters at the head of a line that are marked as a label: ``B. red``, ``(B) red``, ``Option B``, ``B because``,
       or a letter before its own option's text: "A red circle" has an article and no label, unless option A is
       "red circle";
    6. what follows "it is" or "therefore";
    7. letters in brackets or after "option" anywhere, unless denied ("not (A)", "option A is wrong");
    8. one sentence without denial in which exactly one option's text stands as whole words; "dark red" is not "red".

    Readings 6 to 8 are skipped where the text says that it cannot tell, and by :func:`conclude` where it was cut. Small
    letters count where they cannot be a word (``(b)``, ``b.``, ``answer: b``).
    """
    said = split_thoughts(text)
    return None if said.is_open else _read_parts(said.parts, options, (*_DECIDING, *_SUGGESTING))


def conclude(
    question: Question,
    text: str,
    *,
    thought: str = "",
    thought_begun: bool = False,
    begun: str = "",
    truncated: bool,
    limit: int = 0,
    longer_thought: str = "",
    form: str,
    frame_times: tuple[float, ...],
    cost: Cost,
) -> Answer:
    """The answer that a model's output makes: its option if it has one, otherwise why it has none.

    Args:
        question: the question that was asked.
        text: the model's output, thoughts included.
        thought: thoughts that came apart from ``text``.
        thought_begun: the prompt ended inside a thought.
        begun: how the prompt began the answer that the output continues.
        truncated: whether the token limit cut the output.
        limit: that limit, if it is known.
        longer_thought: the override that lets a thought come to its end, where it is another than that of the answer.
        form: how frames and times were shown, for the record.
        frame_times: seconds of the frames that the model saw.
        cost: what it took.
    """
    allowed = max(limit, cost.output_tokens - int(cost.more.get("thinking_tokens", 0)))
    more = f"answerer.max_new_tokens={2 * max(allowed, 8)}" if allowed else "a larger limit of new tokens"
    try:
        said = split_thoughts(text, is_begun=thought_begun)
        meant = _interpreted(question, said, thought.strip(), begun, more, longer_thought or more, truncated=truncated)
    except Exception as error:  # the reading of one text must not cost the answers of all the others
        _LOG.exception("An answer to question %s could not be read: %.200r", question.id, text)
        problem = f"The text could not be read ({type(error).__name__}: {error})."
        meant = _Interpretation(text, thought, None, Status.UNPARSED, problem, "Report it with the text of the answer.")
    return Answer(
        question_id=question.id,
        text=meant.text,
        thought=meant.thought,
        option=meant.option,
        intervals=meant.intervals,
        status=meant.status,
        detail=with_remedy(meant.problem, meant.remedy) if meant.problem else "",
        form=form,
        frame_times=frame_times,
        finish="length" if truncated else "stop",
        cost=cost,
    )


@dataclass(frozen=True)
class _Interpretation:
    text: str
    thought: str
    option: int | None
    status: Status
    problem: str
    remedy: str
    intervals: tuple[Span, ...] = ()


def _interpreted(
    question: Question, said: Split, thought: str, begun: str, more: str, longer_thought: str, *, truncated: bool
) -> _Interpretation:
    """What an output means.

    ``thought``: thoughts that came apart from it; ``more`` and ``longer_thought``: how to allow a longer one.
    """
    thoughts = "\n".join(each for each in (thought, said.thought) if each)
    # White space at the beginning only parts the answer from thoughts that the server took out.
    text = said.answer.lstrip() if thoughts else said.answer
    if said.is_open or (truncated and thoughts and not text.strip()):
        problem = "The model's thoughts did not end, so there is no answer."
        remedy = f"Try {longer_thought}, or take another answerer=NAME."
        return _Interpretation(text, thoughts, None, Status.TRUNCATED_OUTPUT, problem, remedy)
    option, intervals, status, problem = None, None, Status.EMPTY_ANSWER, "The model wrote nothing."
    if text.strip():
        if question.answer_form is AnswerForm.INTERVALS:
            intervals = read_intervals(said.parts, is_cut=truncated)
        else:
            option = _option(question, said.parts, begun, truncated=truncated)
        status, problem = _verdict(question, text, option, intervals)
        text = _BOX.sub("", text)
    elif thoughts:
        problem = "The model thought, and wrote no answer."
    remedy = "Reword the question, or take another answerer=NAME."
    if truncated and option is None and intervals is None:
        problem, remedy = f"{problem} The token limit cut the text.".strip(), f"Try {more}."
    return _Interpretation(text, thoughts, option, status, problem, remedy, intervals or ())


def _option(question: Question, parts: Sequence[str], begun: str, *, truncated: bool) -> int | None:
    if question.options is None or len(question.options) > len(OPTION_LETTERS):
        return None
    if begun:
        # A bracket that the prompt opened for the letter may stay open: "Best Option: (" and "B", for instance.
        parts = (*parts[:-1], f"{begun.rstrip('([{< ')} {parts[-1]}")
    if not truncated:
        return _read_parts(parts, question.options, (*_DECIDING, *_SUGGESTING))
    # What a cut text would have decided is not known yet where it only hints, or has begun to doubt.
    return None if _DOUBT.search(_plain(parts[-1])) else _read_parts(parts, question.options, _DECIDING)


def _verdict(
    question: Question, answer: str, option: int | None, intervals: tuple[Span, ...] | None
) -> tuple[Status, str]:
    if option is None and intervals is None and _REFUSAL.search(_plain(answer)):
        return Status.REFUSED, "The model declined to answer."
    if question.answer_form is AnswerForm.INTERVALS:
        unread = intervals is None
        return (Status.UNPARSED, "No interval of the video can be read from the text.") if unread else (Status.OK, "")
    if option is None and question.options is not None:
        last = option_letter(len(question.options) - 1)
        return Status.UNPARSED, f"No single option of A to {last} can be read from the text."
    return Status.OK, ""


def _read_parts(parts: Sequence[str], options: Sequence[str], readings: Sequence[_Reading]) -> int | None:
    """From the last of several texts between thoughts, which overrules the others; else from all."""
    if not parts:
        return None
    option = _read(parts[-1], options, readings)
    if option is None and len(parts) > 1:
        option = _read("\n".join(parts), options, readings)
    return option


def _read(text: str, options: Sequence[str], readings: Sequence[_Reading]) -> int | None:
    found = _from_json(text, options)
    if not found:
        words, choices = _plain(text), [_bare_option(i, option) for i, option in enumerate(options)]
        if _says_undecided(words, choices):
            readings = _DECIDING
        found = next((read for reading in readings if (read := reading(words, choices))), _NOTHING)
    if len(found) != 1:
        return None
    (option,) = found
    return option if 0 <= option < len(options) else None


def _from_json(text: str, options: Sequence[str]) -> frozenset[int]:
    body = _unfenced(text)
    # An answer needs no such depth, and the decoder's recursion has its own limit.
    if not body.startswith("{") or body.count("{") + body.count("[") > _DEEPEST_JSON:
        return _NOTHING
    try:
        parsed = loaded_object(body)
    except ValueError:
        return _NOTHING
    values = {str(key).casefold().replace(" ", "_"): value for key, value in parsed.items()}
    value = next((values[key] for key in _KEYS if key in values), None)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return _UNREADABLE
    option = read_option(str(value), options)
    return _UNREADABLE if option is None else frozenset({option})


def _plain(text: str) -> str:
    """One alphabet, straight quotes, single spaces and line breaks; no markdown, HTML, control tokens or fence."""
    text = unicodedata.normalize("NFKC", _few_accents(text)).replace("\u2019", "'").replace("\u2018", "'")
    text = text.replace("\u201c", '"').replace("\u201d", '"')
    if "<" in text:
        text = _ANSWER_ENDS.sub("</answer>", _ANSWER_BEGINS.sub("<answer>", text))
        text = _without_tags(_CONTROL.sub("", text))
    text = _MARKDOWN.sub("", _unfenced(text)).strip()
    return _SPACES.sub(lambda run: "\n" if len(f"{run[0]}.".splitlines()) > 1 else " ", text)


def _unfenced(text: str) -> str:
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


def _bare_option(index: int, option: str) -> str:
    """The option's words, without a label of its own (``A. red`` as the first option is ``red``)."""
    words = _key(option)
    own = re.match(rf"\(?{OPTION_LETTERS[index].lower()}[.):]\s*(?=\w)", words)
    return words[own.end() :] if own else words


def _key(text: str) -> str:
    """Words for comparison: case, runs of spaces and punctuation around them do not matter."""
    return _SPACES.sub(" ", _plain(text)).casefold().strip(" .,:;!?\"'")


def _whole(words: str, choices: Sequence[str]) -> frozenset[int]:
    """The whole text is a letter, or the text of one option."""
    letter = _WHOLE_LETTER.fullmatch(words)
    # The prompt asks for a letter, so "B" is option B even where another option's text is "B".
    if letter and not re.search(r"[+#&%]", words) and _index(letter[1]) < len(choices):
        return frozenset({_index(letter[1])})
    key = _key(words)
    without_article = key[_article_end(key, 0) :]
    same = frozenset(i for i, choice in enumerate(choices) if choice and choice == key)
    return same or frozenset(i for i, choice in enumerate(choices) if choice and choice == without_article)


def _following(phrase: re.Pattern[str], words: str, choices: Sequence[str]) -> frozenset[int]:
    """What follows a phrase that announces an answer: a letter or the text of an option."""
    found = _NOTHING
    for match in phrase.finditer(words):
        found |= _leading_options(words, match.end(), choices) or _leading_labels(
            words, match.end(), choices, stated=True
        )
        if len(found) > 1:
            break
    return found


def _line_heads(words: str, choices: Sequence[str]) -> frozenset[int]:
    """Letters marked as labels at the heads of lines."""
    found = _NOTHING
    for line in words.split("\n"):
        bullet = _BULLET.match(line)
        if head := _leading_labels(line, bullet.end() if bullet else 0, choices, stated=False):
            found |= head | _listed(line, choices)
        if len(found) > 1:
            break
    return found


def _mentions(words: str, choices: Sequence[str]) -> frozenset[int]:
    """Letters in brackets, or after "option", that are not denied."""
    found = _NOTHING
    for match in _MENTION.finditer(words):
        letter = match["letter"] or match["bare"]
        if (match["letter"] or letter.isupper()) and not _denied(words, match.start(), match.end()):
            found |= {_index(letter)}
    return found


def _statement(words: str, choices: Sequence[str]) -> frozenset[int]:
    """Options whose text occurs in a single sentence without denial."""
    if re.search(r"[.!?\n]\s*\S", words) or _NEGATION.search(words):
        return _NOTHING
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
    found = _NOTHING
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
    return _UNREADABLE


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
        return _NOTHING
    letter = label["bracketed"] or label["bare"]
    if label["bare"] and not _is_label(letter, words, label.end(), choices, stated=stated):
        return _NOTHING
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
    return _UNREADABLE


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


def _says_undecided(words: str, choices: Sequence[str]) -> bool:
    """Whether the text says that it cannot decide, and no option says the same."""
    return _UNDECIDED.search(words) is not None and not any(_UNDECIDED.search(choice) for choice in choices)


def _index(letter: str) -> int:
    return OPTION_LETTERS.index(letter.upper())


def _is_phrase(choice: str) -> bool:
    """Whether an option's text can be told from a label or an article inside a sentence."""
    return bool(choice) and not re.fullmatch(r"[a-z]", choice)


_DECIDING: tuple[_Reading, ...] = (_whole, partial(_following, _FINAL), partial(_following, _DECIDED), _line_heads)
_SUGGESTING: tuple[_Reading, ...] = (partial(_following, _LEANING), _mentions, _statement)
