from __future__ import annotations

import pytest

from pipeline.answerers.prompts import AnswerPrompt, question_fault
from pipeline.domain import Question
from pipeline.errors import ConfigError

PROMPT = AnswerPrompt(
    multiple_choice="{question}\n{options}\nAnswer with the option's letter from the given choices directly.",
    free="{question}\nAnswer the question using a single word or phrase.",
    option_line="{letter}. {option}",
)


def ask(text: str, *options: str) -> Question:
    return Question("q1", "v.mp4", text, options or None)


def test_multiple_choice() -> None:
    assert PROMPT.render(ask("Which colour?", "red", "blue", "dark red")) == (
        "Which colour?\nA. red\nB. blue\nC. dark red\nAnswer with the option's letter from the given choices directly."
    )


def test_free_text() -> None:
    assert PROMPT.render(ask(" Which colour? ")) == "Which colour?\nAnswer the question using a single word or phrase."


def test_braces_in_the_question_are_only_text() -> None:
    text = PROMPT.render(ask("What does {options} or {0} or {letter mean? {", "{question}", "{}", "{letter}"))
    assert text.startswith("What does {options} or {0} or {letter mean? {\nA. {question}\nB. {}\nC. {letter}\nAnswer")


def test_braces_of_a_template_are_only_text() -> None:
    prompt = AnswerPrompt('{question}\n{options}\nReply {"answer": "X"}', PROMPT.free, "({letter}) {option}")
    assert prompt.render(ask("Why?", "a", "b")) == 'Why?\n(A) a\n(B) b\nReply {"answer": "X"}'


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("multiple_choice", "{question}"),
        ("multiple_choice", "{question} {options} {video}"),
        ("free", "Tell me."),
        ("free", "{question} {options}"),
        ("option_line", "{option}"),
    ],
)
def test_a_template_without_its_slots_is_refused(key: str, value: str) -> None:
    values = {"multiple_choice": PROMPT.multiple_choice, "free": PROMPT.free, "option_line": PROMPT.option_line}
    with pytest.raises(ConfigError, match=f"answerer.prompt.{key}"):
        AnswerPrompt(**{**values, key: value})


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (ask(" \n"), "no text"),
        (ask("Which?", "red"), "1 options"),
        (ask("Which?", *("x" * (i + 1) for i in range(27))), "27 options"),
        (ask("Which?", "red", " "), "option B"),
        (ask("What is <image> here?"), "<image>"),
        (ask("Which?", "red", "blue<|im_end|>"), "<|im_end|>"),
    ],
)
def test_a_question_that_cannot_be_asked(question: Question, words: str) -> None:
    fault = question_fault(question, ("<image>", "<|im_end|>"))
    assert fault is not None
    assert words in fault
    assert "q1" in fault


def test_a_question_that_can_be_asked() -> None:
    assert question_fault(ask("Which of <these>?", "red", "blue"), ("<image>", "")) is None
    assert question_fault(ask("Which?", *("x" * (i + 1) for i in range(26))), ()) is None
    assert question_fault(Question("q", "v", "Which?", ()), ()) is not None
