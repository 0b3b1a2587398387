"""What each stage of a run took, by the figures of :mod:`pipeline.ledger`."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.ledger import Stage, figures_of, known
from pipeline.reports.briefs import StageSum, Took, TookRows
from pipeline.reports.runs import RunArtefacts


@dataclass(frozen=True)
class StageCost:
    """One stage of one run."""

    run: str
    stage: Stage
    name: str
    """Of the sampler, the answerer or the judge."""
    took: StageSum
    """Over all questions with a row, failed ones included."""

    @property
    def questions(self) -> int:
        """With a row."""
        return self.took.rows

    def alone(self, figure: str) -> float | None:
        """A figure of a question that is the only one, as the mean over all; None where it is not known of all."""
        if not self.took.rows or figure in self.took.unknown:
            return None
        return self.took.alone[figure] / self.took.rows

    @property
    def parts(self) -> list[tuple[str, float]]:
        """The seconds of a question that is the only one, by what was done, as far as they are known."""
        parts = [name for name in figures_of(self.stage) if name.endswith("_seconds") and name != "wall_seconds"]
        each = [(name.removesuffix("_seconds"), self.alone(name)) for name in parts]
        return [(name, seconds) for name, seconds in each if seconds]

    @property
    def thinking_tokens(self) -> int:
        """Output tokens of thoughts, as far as they are known."""
        return round(self.took.cost.get("thinking_tokens", 0))


def stage_costs(run: RunArtefacts) -> list[StageCost]:
    """The stages that the run has rows of."""
    briefs = run.briefs
    stages: list[tuple[Stage, str, StageSum]] = [
        ("sampler", run.sampler, briefs.sampled.total),
        ("answerer", run.answerer, briefs.answering),
    ]
    for each in run.grades:
        grades = (Took(known(brief.cost, brief.cost, "judge"), False, "") for brief in each.briefs.values())
        stages.append(("judge", each.by.label, TookRows(grades, "judge").sum()))
    return [StageCost(run.name, stage, name, took) for stage, name, took in stages if took.rows]
