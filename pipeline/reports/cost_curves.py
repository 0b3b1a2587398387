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

from pipeline.domain import LARGEST_SCALE
from pipeline.ledger import Stage
from pipeline.reports.charts import LINE_STYLES, Chart, Series, Value, cost_chart
from pipeline.reports.costs import StageCost, stage_costs
from pipeline.reports.policies import policy_words
from pipeline.reports.scoreboard import RunScore

_UNIFORM, _SMALL = "uniform", "uniform_low"
"""The sampler of uniform frames, and the policy of small ones."""
_TIMES = (2, 4)
_SMALL_TIMES = 16
"""So many frames at a quarter of each side have the tokens of one."""
_SMALL_SCALE = 0.5
"""Frames up to this factor on each side are small."""
_ROUNDING = 0.05
"""By which a selection may miss the tokens that it is to have."""
_ARM, _PLAIN_ARM = "experiment/arm", "uniform_16"
"""How an experiment spends tokens decides the first stage too; in this arm every word about uniform frames applies."""
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
        """Visual tokens of both stages."""
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
    """The curve of the runs over one set of questions; None where fewer than two are graded.

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
    return each.run.sampler, policy_words(each.run), each.run.answerer


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
    """By answerer and tokens of each selector.

    Tokens are told in frames: of the answerer's own size, or of the video's where the policy decides the size.
    """
    plain: set[tuple[str, int | None]] = set()
    sized: list[tuple[str, float, float]] = []  # tokens, and the factor on each side
    for each in scores:
        native = _native_frames(each)
        if each.run.sampler == _UNIFORM and native is None:
            plain.add((each.run.answerer, each.run.budget))
        elif each.run.sampler == _UNIFORM and native and each.run.budget and _is_of_one_size(each):
            sized.append((each.run.answerer, native, (native / each.run.budget) ** 0.5))
    asked: dict[tuple[str, int, bool], RunScore] = {}
    for each in scores:
        selects = each.run.sampler != _UNIFORM and _settings(each, "selection").get("name") != _SMALL
        if selects and each.run.budget and each.run.answerer:
            native = _native_frames(each)
            frames = each.run.budget if native is None else max(1, round(native))
            asked.setdefault((each.run.answerer, frames, native is not None), each)

    def has(answerer: str, frames: int, largest: float) -> bool:
        return any(
            of == answerer and abs(tokens / frames - 1) <= _ROUNDING and scale <= largest for of, tokens, scale in sized
        )

    for (answerer, frames, is_sized), each in asked.items():
        needed = [frames * times for times in _TIMES]
        larger = [
            count
            for count in needed
            if not (has(answerer, count, LARGEST_SCALE) if is_sized else (answerer, count) in plain)
        ]
        native_size = [f"selection={_SMALL}", "selection.scale=1"] if is_sized else []
        if larger:
            told = " and ".join(map(str, larger))
            size = " of the video's own size" if is_sized else ""
            words = [f"sampler={_UNIFORM}", *native_size, f"selection.budget={','.join(map(str, larger))}"]
            yield Missing(f"{_UNIFORM} at {told} frames{size}, {answerer}", _command(each, words))
        if not has(answerer, frames, _SMALL_SCALE):
            what = f"{frames * _SMALL_TIMES} small uniform frames, the tokens of {frames}, {answerer}"
            small = ["selection.scale=0.25"] if is_sized else []  # its own, and not that of an experiment
            words = [f"sampler={_UNIFORM}", f"selection={_SMALL}", *small, f"selection.budget={frames * _SMALL_TIMES}"]
            sized_words = _words_for_sizes(each)
            yield Missing(what, "" if sized_words is None else _command(each, [*words, *sized_words]))


def _native_frames(each: RunScore) -> float | None:
    """The frames of the video's own size that have the tokens of a selection; None where frames have the answerer's."""
    node = _settings(each, "selection")
    if isinstance(law := node.get("law"), Mapping):
        return float(law["frames"]) * float(law["scale"]) ** 2
    if isinstance(tiers := node.get("tiers"), Sequence):
        return sum(float(tier["frames"]) * float(tier["scale"]) ** 2 for tier in tiers)
    return (each.run.budget or 0) * float(node["scale"]) ** 2 if "scale" in node else None


def _is_of_one_size(each: RunScore) -> bool:
    return not {"large", "tiers"} & set(_settings(each, "selection"))


def _words_for_sizes(each: RunScore) -> list[str] | None:
    """The overrides that let an answerer take frames of a stated size; None where its frames have one size.

    Those that take them have a bound on a frame's size in their settings: ``min_pixels``, or ``frame``.
    """
    node = _settings(each, "answerer")
    if node and not {"min_pixels", "frame"} & set(node):
        return None
    return ["answerer.frame_size=null"] if node.get("frame_size") else []


def _settings(each: RunScore, group: str) -> Mapping[str, Any]:
    node = each.run.parsed_settings.get(group)
    return node if isinstance(node, Mapping) else {}


def _command(each: RunScore, words: Sequence[str]) -> str:
    """The command of a run with another first stage; made of the run's names where its command is not known."""
    typed = shlex.split(each.run.command)
    given = [word for word in typed[2:] if word != "-m" and not _is_of_first_stage(word)]
    if typed[:2] != ["gens", "evaluate"]:
        given = [f"{key}={value}" for key, value in _groups(each) if value]
    given = [f"{_ARM}={_PLAIN_ARM}" if word.partition("=")[0] == _ARM else word for word in given]
    several = ["-m"] if any("," in word.partition("=")[2] for word in words) else []
    return shlex.join(["gens", "evaluate", *several, *given, *words])


def _is_of_first_stage(word: str) -> bool:
    key = word.lstrip("+~").partition("=")[0]
    return any(key == stage or key.startswith((f"{stage}.", f"{stage}/", f"{stage}@")) for stage in _STAGE_KEYS)


def _groups(each: RunScore) -> tuple[tuple[str, str], ...]:
    return ("benchmark", each.run.benchmark), ("answerer", each.run.answerer)
