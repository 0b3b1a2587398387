"""Costs of each stage: seconds, tokens and dollars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.domain import Cost, Status
from pipeline.reports.runs import RunArtefacts


@dataclass(frozen=True)
class StageCost:
    """One stage of one run. A cached result counts with its original cost."""

    run: str
    stage: str
    """``sampler`` or ``answerer``."""
    name: str
    """Of the sampler or answerer."""
    questions: int
    """With a row, failed ones included."""
    total: Cost
    thinking_tokens: int = 0
    """Of the output tokens, those of thoughts, as far as they are known."""
    cut_thoughts: int = 0
    """Answers that have none because their thought did not end."""

    @property
    def seconds_each(self) -> float | None:
        """Seconds a question; None where nothing was recorded."""
        return self.total.seconds / self.questions if self.questions and self.total.seconds else None


def stage_costs(run: RunArtefacts) -> list[StageCost]:
    """The stages that the run has rows of."""
    found: list[StageCost] = []
    if run.relevance:
        total = _sum(brief.cost for brief in run.briefs.values())
        found.append(StageCost(run.name, "sampler", run.sampler, len(run.relevance), total))
    if run.answers:
        answers = [row.answer for row in run.answers]
        total = _sum(answer.cost for answer in answers)
        thinking = round(sum(answer.cost.more.get("thinking_tokens", 0) for answer in answers))
        cut = sum(answer.status is Status.TRUNCATED_OUTPUT and bool(answer.thought) for answer in answers)
        found.append(StageCost(run.name, "answerer", run.answerer, len(answers), total, thinking, cut))
    return found


def _sum(costs: Iterable[Cost]) -> Cost:
    seconds, prompt, output, dollars = 0.0, 0, 0, 0.0
    for cost in costs:
        seconds += cost.seconds
        prompt += cost.prompt_tokens
        output += cost.output_tokens
        dollars += cost.dollars
    return Cost(seconds, prompt, output, dollars)
