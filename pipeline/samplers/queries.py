"""The text of a question that a sampler gets, and the questions that it cannot take."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.domain import Question, Relevance, Status, option_letter


def with_options(question: Question) -> str:
    """The question, and below it its options, each with its letter; the question alone if it has none."""
    options = question.options or ()
    return "\n".join(
        [question.text.strip(), *(f"{option_letter(index)}. {option}" for index, option in enumerate(options))]
    )


def score_askable(
    questions: Sequence[Question],
    query: Callable[[Question], str],
    markup: Callable[[], Sequence[str]],
    score: Callable[[Sequence[Question]], Sequence[Relevance]],
) -> list[Relevance]:
    """Score the questions that can be put to a model; each other one gets a record that says why it cannot.

    Args:
        questions: of one video.
        query: the text of a question that the model gets.
        markup: gives the strings that the model's tokenizer takes for control tokens; not called without a question
            that has text, since the model may have to be loaded for it.
        score: one relevance a question, in their order; not called without any.

    Returns:
        One relevance a question, in the order of ``questions``.
    """
    refused = refusals(questions, query, markup)
    asked = [question for place, question in enumerate(questions) if place not in refused]
    scored = iter(score(asked) if asked else [])
    return [refused[place] if place in refused else next(scored) for place in range(len(questions))]


def refusals(
    questions: Sequence[Question], query: Callable[[Question], str], markup: Callable[[], Sequence[str]]
) -> dict[int, Relevance]:
    """By place, the records of questions that cannot be put to a model; for the arguments see :func:`score_askable`."""
    return {
        place: record
        for place, question in enumerate(questions)
        if (record := _refusal(question, query(question), markup))
    }


def _refusal(question: Question, query: str, markup: Callable[[], Sequence[str]]) -> Relevance | None:
    if not question.text.strip():
        detail = "The question has no text: give it one, or take the row out of the benchmark."
    elif control := sorted(token for token in markup() if token and token in query):
        detail = f"The question contains the model's control tokens {', '.join(control)}: take them out."
    else:
        return None
    return Relevance(question.id, (), (), status=Status.INVALID_QUESTION, detail=detail)
