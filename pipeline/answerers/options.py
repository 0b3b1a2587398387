"""Which option a model's words mean, by one documented rule, and the answer that follows from it.

A reading is strict: words that name no option, or several without a decision between them, name none. Taking the first
capital letter, as some published scripts do, reads "Based on ..." as B, and a random choice for what cannot be read
makes a failure look like an answer. Neither happens here: such an answer is ``unparsed`` and counts as wrong. Thoughts
are not part of an answer (:mod:`pipeline.thoughts`).

Whoever changes how a text is read raises :data:`pipeline.identity.READING_VERSION`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.answerers.wording import (
    DECIDED,
    FINAL,
    LEANING,
    NOTHING,
    UNREADABLE,
    bare_option,
    following,
    line_heads,
    mentions,
    plain,
    says_undecided,
    statement,
    unfenced,
    whole,
)
from pipeline.domain import OPTION_LETTERS, Answer, Cost, Question, Status, option_letter
from pipeline.errors import with_remedy
from pipeline.thoughts import Split, split_thoughts

_LOG = logging.getLogger(__name__)

_Reading = Callable[[str, Sequence[str]], frozenset[int]]

_DECIDING: tuple[_Reading, ...] = (whole, partial(following, FINAL), partial(following, DECIDED), line_heads)
_SUGGESTING: tuple[_Reading, ...] = (partial(following, LEANING), mentions, statement)
_DEEPEST_JSON = 100
_KEYS = ("final_answer", "answer", "option", "choice", "letter", "best_option", "correct_option", "your_answer")
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
    option, status, problem = None, Status.EMPTY_ANSWER, "The model wrote nothing."
    if text.strip():
        option = _option(question, said.parts, begun, truncated=truncated)
        status, problem = _verdict(question, text, option)
        text = _BOX.sub("", text)
    elif thoughts:
        problem = "The model thought, and wrote no answer."
    remedy = "Reword the question, or take another answerer=NAME."
    if truncated and option is None:
        problem, remedy = f"{problem} The token limit cut the text.".strip(), f"Try {more}."
    return _Interpretation(text, thoughts, option, status, problem, remedy)


def _option(question: Question, parts: Sequence[str], begun: str, *, truncated: bool) -> int | None:
    if question.options is None or len(question.options) > len(OPTION_LETTERS):
        return None
    if begun:
        # A bracket that the prompt opened for the letter may stay open: "Best Option: (" and "B", for instance.
        parts = (*parts[:-1], f"{begun.rstrip('([{< ')} {parts[-1]}")
    if not truncated:
        return _read_parts(parts, question.options, (*_DECIDING, *_SUGGESTING))
    # What a cut text would have decided is not known yet where it only hints, or has begun to doubt.
    return None if _DOUBT.search(plain(parts[-1])) else _read_parts(parts, question.options, _DECIDING)


def _verdict(question: Question, answer: str, option: int | None) -> tuple[Status, str]:
    if option is None and _REFUSAL.search(plain(answer)):
        return Status.REFUSED, "The model declined to answer."
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
        words, choices = plain(text), [bare_option(i, option) for i, option in enumerate(options)]
        if says_undecided(words, choices):
            readings = _DECIDING
        found = next((read for reading in readings if (read := reading(words, choices))), NOTHING)
    if len(found) != 1:
        return None
    (option,) = found
    return option if 0 <= option < len(options) else None


def _from_json(text: str, options: Sequence[str]) -> frozenset[int]:
    body = unfenced(text)
    # An answer needs no such depth, and the decoder's recursion has its own limit.
    if not body.startswith("{") or body.count("{") + body.count("[") > _DEEPEST_JSON:
        return NOTHING
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return NOTHING
    if not isinstance(parsed, dict):
        return NOTHING
    values = {str(key).casefold().replace(" ", "_"): value for key, value in parsed.items()}
    value = next((values[key] for key in _KEYS if key in values), None)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return UNREADABLE
    option = read_option(str(value), options)
    return UNREADABLE if option is None else frozenset({option})
