"""Costs of each stage: seconds, tokens and dollars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.domain import Cost
from pipeline.reports.runs import RunArtefacts


@dataclass(frozen=True)
class StageCost:
    """One stage of one run. A cached result counts with its original cost."""

    run: str
    stage: str
    """``sampler``, ``answerer`` or ``judge``."""
    name: str
    """Of the sampler, the answerer or the judge."""
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
    briefs = run.briefs
    found: list[StageCost] = []
    if run.relevance:
        found.append(StageCost(run.name, "sampler", run.sampler, len(run.relevance), briefs.sampling.total))
    if run.answers:
        took = briefs.answering
        found.append(
            StageCost(
                run.name,
                "answerer",
                run.answerer,
                len(run.answers),
                took.total,
                took.thinking_tokens,
                took.cut_thoughts,
            )
        )
    for each in run.grades:
        costs = [brief.cost for brief in each.briefs.values()]
        found.append(StageCost(run.name, "judge", each.by.label, len(costs), _total(costs)))
    return found


def _total(costs: Sequence[Cost]) -> Cost:
    return Cost(
        sum(cost.seconds for cost in costs),
        sum(cost.prompt_tokens for cost in costs),
        sum(cost.output_tokens for cost in costs),
        sum(cost.dollars for cost in costs),
    )
