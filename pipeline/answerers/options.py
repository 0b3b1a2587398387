"""Which option a model's words mean, by one documented rule, and the answer that follows from it.

A reading is strict: words that name no option, or several without a decision between them, name none. Taking the first
capital letter, as some published scripts do, reads "Based on ..." as B, and a random choice for what cannot be read
makes a failure look like an answer. Neither happens here: such an answer is ``unparsed`` and counts as wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial

from pipeline.answerers.wording import (
    DECIDED,
    FINAL,
    LEANING,
    NOTHING,
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
from pipeline.domain import OPTION_LETTERS, Answer, Cost, Question, Status
from pipeline.errors import with_remedy

_Reading = Callable[[str, Sequence[str]], frozenset[int]]

_DECIDING: tuple[_Reading, ...] = (whole, partial(following, FINAL), partial(following, DECIDED), line_heads)
_SUGGESTING: tuple[_Reading, ...] = (partial(following, LEANING), mentions, statement)
_UNREADABLE = frozenset({-1})
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


def read_option(text: str, options: Sequence[str]) -> int | None:
    r"""The index of the option that ``text`` decides for, or none.

    The first of these readings that finds a letter or an option decides. If it finds two, or a letter beyond the
    options, there is no answer:

    1. a JSON object with a key such as ``answer``, its value read by this same rule;
    2. the whole text is a letter (``B``, ``(b)``, ``**B.**``) or one option's text, with or without article and quotes;
    3. what follows "final answer", ``\boxed{`` or ``<answer>``: a letter or an option's text;
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
    return _read(text, options, (*_DECIDING, *_SUGGESTING))


def conclude(
    question: Question,
    text: str,
    *,
    begun: str = "",
    truncated: bool,
    form: str,
    frame_times: tuple[float, ...],
    cost: Cost,
) -> Answer:
    """The answer that a model's output makes: its option if it has one, otherwise why it has none.

    Args:
        question: the question that was asked.
        text: the model's output as it came.
        begun: how the prompt began the answer, which the output goes on with.
        truncated: whether the token limit cut the output.
        form: how frames and times were told, for the record.
        frame_times: seconds of the frames that the model saw.
        cost: what it took.
    """
    # What a cut text would have decided is not known yet where it only hints.
    readings = _DECIDING if truncated else (*_DECIDING, *_SUGGESTING)
    # A bracket that the prompt opened for the letter may stay open: "Best Option: (" and "B", for instance.
    whole_text = f"{begun.rstrip('([{< ')} {text}" if begun else text
    option = None if question.options is None else _read(whole_text, question.options, readings)
    status, problem, remedy = Status.OK, "", "Reword the question, or take another answerer=NAME."
    if not text.strip():
        status, problem = Status.EMPTY_ANSWER, "The model wrote nothing."
    elif option is None and _REFUSAL.search(plain(text)):
        status, problem = Status.REFUSED, "The model declined to answer."
    elif option is None and question.options is not None:
        last = OPTION_LETTERS[len(question.options) - 1]
        status, problem = Status.UNPARSED, f"No single option of A to {last} can be read from the text."
    if truncated and option is None:
        problem = f"{problem} The token limit cut the text.".strip()
        remedy = f"Try answerer.max_new_tokens={2 * max(cost.output_tokens, 8)}."
    return Answer(
        question_id=question.id,
        text=text,
        option=option,
        status=status,
        detail=with_remedy(problem, remedy) if problem else "",
        form=form,
        frame_times=frame_times,
        finish="length" if truncated else "stop",
        cost=cost,
    )


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
    if not body.startswith("{"):
        return NOTHING
    try:
        parsed = json.loads(body)
    except ValueError:
        return NOTHING
    if not isinstance(parsed, dict):
        return NOTHING
    values = {str(key).casefold().replace(" ", "_"): value for key, value in parsed.items()}
    value = next((values[key] for key in _KEYS if key in values), None)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return _UNREADABLE
    option = read_option(str(value), options)
    return _UNREADABLE if option is None else frozenset({option})
