"""Accuracy against what a question costs: visual tokens of both stages, seconds, dollars. Frames alone are no cost.

Costs are those of a question alone, whatever was shared or cached, as the mean over all questions of a run, failed ones
included. A drawing is fair only beside uniform frames at two and four times the budget and many small ones at equal
tokens: which of these runs are not on the page is told, with the command that makes them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.ledger import Stage
from pipeline.reports.charts import LINE_STYLES, Chart, Series, Value, cost_chart
from pipeline.reports.costs import StageCost, stage_costs
from pipeline.reports.scoreboard import RunScore

_UNIFORM, _SMALL = "uniform", "uniform_low"
"""The sampler of uniform frames, and the policy of small ones."""
_TIMES = (2, 4)
_SMALL_TIMES = 16
"""So many frames at a quarter of each side have the tokens of one."""
_STAGE_KEYS = ("sampler", "selection")
_COSTS = (
    ("visual_tokens", "visual tokens a question, selector and answerer", "{:,.0f} visual tokens"),
    ("seconds", "seconds a question, both stages", "{:,.3g} s"),
    ("dollars", "dollars a question", "${:,.4g}"),
)


@dataclass(frozen=True)
class CostRow:
    """One run: its accuracy, and what a question costs; None for what is not known."""

    name: str
    style: int
    """Of its line."""
    value: Value
    """With the number of frames."""
    sampler_tokens: float | None
    answerer_tokens: float | None
    seconds: float | None
    dollars: float | None

    @property
    def visual_tokens(self) -> float | None:
        """Of both stages."""
        if self.sampler_tokens is None or self.answerer_tokens is None:
            return None
        return self.sampler_tokens + self.answerer_tokens


@dataclass(frozen=True)
class Drawing:
    """Accuracy against one cost."""

    cost: str
    chart: Chart
    left_out: tuple[str, ...]
    """Runs of which the cost is not known."""


@dataclass(frozen=True)
class Missing:
    """A run that a fair drawing needs."""

    what: str
    command: str
    """Empty where the answerer's frames have one size."""


@dataclass(frozen=True)
class CostCurve:
    """All about one set of questions."""

    of: str
    """Which questions, where a page has several sets."""
    drawings: tuple[Drawing, ...]
    rows: tuple[CostRow, ...]
    missing: tuple[Missing, ...]

    @property
    def is_priced(self) -> bool:
        """Whether any run cost dollars."""
        return any(row.dollars for row in self.rows)


def cost_curve(scores: Sequence[RunScore], names: Mapping[str, str], of: str = "") -> CostCurve | None:
    """Of the runs over one set of questions; None where fewer than two are graded.

    Args:
        scores: of the runs.
        names: by run name.
        of: names the questions in titles.
    """
    graded = [(each, share) for each in scores if (share := _share(each)) is not None]
    if len(graded) < 2:
        return None
    lines = list(dict.fromkeys(_line(each) for each, _ in graded))
    rows = [
        (each, _row(each, share, names[each.run.name] or each.run.name, lines.index(_line(each)) % LINE_STYLES))
        for each, share in graded
    ]
    drawings = tuple(drawing for cost in _COSTS if (drawing := _drawing(*cost, rows, of)))
    return CostCurve(of, drawings, tuple(row for _, row in rows), tuple(_missing([each for each, _ in graded])))


def _share(each: RunScore) -> float | None:
    return each.accuracy.overall.accuracy if each.accuracy else None


def _line(each: RunScore) -> tuple[str, str, str]:
    """Runs that differ only in the budget are one line."""
    return each.run.sampler, each.run.selection, each.run.answerer


def _row(each: RunScore, share: float, name: str, style: int) -> CostRow:
    costs: dict[Stage, StageCost] = {cost.stage: cost for cost in stage_costs(each.run)}
    ends = (each.interval.low, each.interval.high) if each.interval else (None, None)

    def both(figure: str) -> float | None:
        known = [cost.alone(figure) for stage, cost in costs.items() if stage != "judge"]
        return None if None in known else sum(value for value in known if value is not None)

    # A run that was given selections does not know what they took.
    of_sampler, of_answerer = costs.get("sampler"), costs.get("answerer")
    return CostRow(
        name,
        style,
        Value(each.run.budget or 0, share, *ends),
        of_sampler.alone("visual_tokens") if of_sampler else None,
        of_answerer.alone("visual_tokens") if of_answerer else None,
        both("seconds") if of_sampler else None,
        both("dollars"),
    )


def _drawing(figure: str, axis: str, told: str, rows: Sequence[tuple[RunScore, CostRow]], of: str) -> Drawing | None:
    lines: dict[tuple[str, str, str], list[Value]] = {}
    styles: dict[tuple[str, str, str], int] = {}
    left_out = []
    for each, row in rows:
        cost = getattr(row, figure)
        if cost:
            value = row.value
            lines.setdefault(_line(each), []).append(Value(cost, value.share, value.low, value.high))
            styles[_line(each)] = row.style
        else:
            left_out.append(row.name)
    made = [(sampler, policy) for sampler, policy, _ in lines]
    plain = len({sampler for sampler, _ in made}) == len(set(made))
    series = [
        Series(
            " → ".join(filter(None, (sampler if plain else f"{sampler} · {policy}", answerer))),
            tuple(sorted(values, key=lambda value: value.frames)),
            styles[sampler, policy, answerer],
        )
        for (sampler, policy, answerer), values in lines.items()
    ]
    title = f"Accuracy against {figure.replace('_', ' ')}{of and f': {of}'}"
    drawn = cost_chart(title, axis, told, series) if series else None
    return Drawing(figure.replace("_", " "), drawn, tuple(left_out)) if drawn else None


def _missing(scores: Sequence[RunScore]) -> Iterator[Missing]:
    """By answerer and budget of each selector."""
    there = {(each.run.answerer, _policy(each), each.run.budget) for each in scores if each.run.sampler == _UNIFORM}
    asked: dict[tuple[str, int], RunScore] = {}
    for each in scores:
        if each.run.sampler != _UNIFORM and each.run.budget and each.run.answerer:
            asked.setdefault((each.run.answerer, each.run.budget), each)
    plain = {(answerer, budget) for answerer, policy, budget in there if policy != _SMALL}
    small = {(answerer, budget) for answerer, policy, budget in there if policy == _SMALL}
    for (answerer, budget), each in asked.items():
        larger = [budget * times for times in _TIMES if (answerer, budget * times) not in plain]
        if larger:
            told = " and ".join(map(str, larger))
            words = [f"sampler={_UNIFORM}", f"selection.budget={','.join(map(str, larger))}"]
            yield Missing(f"{_UNIFORM} at {told} frames, {answerer}", _command(each, words))
        if (answerer, budget * _SMALL_TIMES) not in small:
            what = f"{budget * _SMALL_TIMES} small uniform frames, the tokens of {budget}, {answerer}"
            words = [f"sampler={_UNIFORM}", f"selection={_SMALL}", f"selection.budget={budget * _SMALL_TIMES}"]
            sized = _words_for_sizes(each)
            yield Missing(what, "" if sized is None else _command(each, [*words, *sized]))


def _words_for_sizes(each: RunScore) -> list[str] | None:
    """The overrides that let an answerer take frames of a stated size; None where its frames have one size.

    Those that take them have a bound on a frame's size in their settings: ``min_pixels``, or ``frame``.
    """
    node = _settings(each, "answerer")
    if node and not {"min_pixels", "frame"} & set(node):
        return None
    return ["answerer.frame_size=null"] if node.get("frame_size") else []


def _policy(each: RunScore) -> str:
    return str(_settings(each, "selection").get("name", ""))


def _settings(each: RunScore, group: str) -> Mapping[str, Any]:
    node = each.run.parsed_settings.get(group)
    return node if isinstance(node, Mapping) else {}


def _command(each: RunScore, words: Sequence[str]) -> str:
    """The command of a run with another first stage; made of the run's names where its command is not known."""
    typed = shlex.split(each.run.command)
    given = [word for word in typed[2:] if word != "-m" and not _is_of_first_stage(word)]
    if typed[:2] != ["gens", "evaluate"]:
        given = [f"{key}={value}" for key, value in _groups(each) if value]
    several = ["-m"] if any("," in word.partition("=")[2] for word in words) else []
    return shlex.join(["gens", "evaluate", *several, *given, *words])


def _is_of_first_stage(word: str) -> bool:
    key = word.lstrip("+~").partition("=")[0]
    return any(key == stage or key.startswith((f"{stage}.", f"{stage}/", f"{stage}@")) for stage in _STAGE_KEYS)


def _groups(each: RunScore) -> tuple[tuple[str, str], ...]:
    return ("benchmark", each.run.benchmark), ("answerer", each.run.answerer)
