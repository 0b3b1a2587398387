"""What of a question a sampler is told, and which questions it cannot be told."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.domain import Question, Relevance, Status, option_letter


def with_options(question: Question) -> str:
    """The question, and below it its options, each with its letter; the question alone if it has none."""
    options = question.options or ()
    return "\n".join(
        [question.text.strip(), *(f"{option_letter(index)}. {option}" for index, option in enumerate(options))]
    )


def refusal(question: Question, query: str, markup: Iterable[str]) -> Relevance | None:
    """The record of a question that cannot be put to a model, or nothing.

    Args:
        question: the question.
        query: what the model would be told of it.
        markup: strings that the model's tokenizer takes for control tokens.
    """
    control = sorted(token for token in markup if token and token in query)
    if not question.text.strip():
        detail = "The question has no text: give it one, or take the row out of the benchmark."
    elif control:
        detail = f"The question contains the model's control tokens {', '.join(control)}: take them out."
    else:
        return None
    return Relevance(question.id, (), (), status=Status.INVALID_QUESTION, detail=detail)
