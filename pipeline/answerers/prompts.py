"""What an answerer is asked, in words. Frames and chat markup are added by each answerer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.domain import OPTION_LETTERS, Question, option_letter
from pipeline.errors import ConfigError, with_remedy

_SLOT = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class AnswerPrompt:
    """The text of a question as a model is given it.

    The wording in the YAMLs is LLaVA-1.5's (Liu et al. 2023, "Improved Baselines with Visual Instruction Tuning"), and
    lmms-eval's for LongVideoBench: ``Answer with the option's letter from the given choices directly.`` and ``Answer
    the question using a single word or phrase.``

    Slots are filled in one pass, so braces in a question or an option stay as they are, and a template may hold other
    braces (a JSON example, say).
    """

    multiple_choice: str
    """Holds ``{question}`` and ``{options}``."""
    free: str
    """For a question without options; holds ``{question}``."""
    option_line: str
    """One line of ``{options}``; holds ``{letter}`` and ``{option}``."""

    def __post_init__(self) -> None:
        for key, needed in (
            ("multiple_choice", ("question", "options")),
            ("free", ("question",)),
            ("option_line", ("letter", "option")),
        ):
            found = set(_SLOT.findall(getattr(self, key)))
            if found != set(needed):
                wanted = " and ".join(f"{{{slot}}}" for slot in needed)
                raise ConfigError(
                    f"answerer.prompt.{key} has the slots {sorted(found)}, and must have {wanted}, and no other",
                    f"write {wanted} once each in answerer.prompt.{key}, in your YAML under conf/answerer/",
                )

    def render(self, question: Question) -> str:
        """The question with its options, lettered from A, and the instruction how to answer."""
        if question.options is None:
            return _filled(self.free, {"question": question.text.strip()})
        lines = (
            _filled(self.option_line, {"letter": option_letter(i), "option": option.strip()})
            for i, option in enumerate(question.options)
        )
        return _filled(self.multiple_choice, {"question": question.text.strip(), "options": "\n".join(lines)})


def question_fault(question: Question, special_tokens: Iterable[str]) -> str | None:
    """Why this question cannot be put to a model and what to do, or none if it can.

    Args:
        question: the question.
        special_tokens: strings that the model's tokenizer reads as markup (``<image>``, ``<|im_end|>``). In a question
            they would move the place of a frame or end the turn.
    """
    if not question.text.strip():
        return with_remedy(f"Question {question.id} has no text.", "Give it one.")
    options = question.options
    if options is not None:
        if not 2 <= len(options) <= len(OPTION_LETTERS):
            return with_remedy(
                f"Question {question.id} has {len(options)} options.",
                f"Give it 2 to {len(OPTION_LETTERS)}, or none at all.",
            )
        if empty := [option_letter(i) for i, option in enumerate(options) if not option.strip()]:
            return with_remedy(
                f"Question {question.id} has no text for option {', '.join(empty)}.", "Give it one, or drop the option."
            )
    words = "\n".join((question.text, *(options or ())))
    if markup := sorted({token for token in special_tokens if token and token in words}):
        return with_remedy(
            f"Question {question.id} holds {', '.join(markup)}, which this model reads as markup.",
            "Reword the question, or take another answerer=NAME.",
        )
    return None


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _SLOT.sub(lambda slot: values[slot[1]], template)
