"""Ask an answerer and get its answers in the order of the requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.domain import Answer


def answered(answerer: Answerer, requests: Sequence[AnswerRequest], batch: int = 8) -> list[Answer]:
    """Requests may share a question's id here: they are numbered, since a run's ids differ."""
    numbered = [
        replace(request, question=replace(request.question, id=f"{request.question.id}#{place}"))
        for place, request in enumerate(requests)
    ]
    found = {answer.question_id: answer for answer in answerer.answer(numbered, batch)}
    return [
        replace(found[one.question.id], question_id=request.question.id)
        for one, request in zip(numbered, requests, strict=True)
    ]
