"""The cost ledger: what the figures of a cost are, and how costs are added, divided and read.

A result has two reckonings. Its ``cost`` is what it took: work that questions shared is divided among them, so that the
costs of a run add up to what the run took. ``alone`` is what it would have taken if the question had been the only one:
shared work counts whole, and one part of the work follows the other. A result from a cache keeps both, and has spent
nothing in this run.

Figures that are not known are left out, never 0.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import repeat
from typing import Literal

from pipeline.domain import Answer, Cost, Relevance

Stage = Literal["sampler", "answerer", "judge"]


@dataclass(frozen=True)
class Figure:
    """One figure of a cost: a field of :class:`pipeline.domain.Cost`, or a name in its ``more``."""

    name: str
    stages: tuple[Stage, ...]
    """Those that may tell it."""
    about: str


_BOTH: tuple[Stage, ...] = ("sampler", "answerer")
_ALL: tuple[Stage, ...] = (*_BOTH, "judge")
_SAMPLER: tuple[Stage, ...] = ("sampler",)
_ANSWERER: tuple[Stage, ...] = ("answerer",)

FIGURES = (
    Figure(
        "seconds", _ALL, "of the sampler with its frames, of the answerer's model, or of the judge; alone: of all parts"
    ),
    Figure("decode_seconds", _BOTH, "waited for frames to be decoded and prepared"),
    Figure("score_seconds", _SAMPLER, "vision, and what is in no other part"),
    Figure("prepare_seconds", _ANSWERER, "frames and words made a prompt"),
    Figure("prefill_seconds", _BOTH, "the model reads the prompt"),
    Figure("generate_seconds", _BOTH, "the model writes"),
    Figure("wall_seconds", _BOTH, "by the clock, from when the video or the request was drawn to its result"),
    Figure("frames_decoded", _BOTH, "pictures that the reader handed over"),
    Figure("frames_walked", _BOTH, "frames that were decoded for these, from where decoding can start"),
    Figure("pixels", _BOTH, "of the frames handed over, as decoded"),
    Figure("pool", _SAMPLER, "candidates that the policy chooses from"),
    Figure("frames_scored", _SAMPLER, "frames through the scorer's vision tower"),
    Figure("frames_shown", _ANSWERER, "frames that were put in"),
    Figure("image_pixels", _ANSWERER, "of these, as the model or the server got them"),
    Figure("patches", _BOTH, "inputs of the vision tower, before merging"),
    Figure("visual_tokens", _BOTH, "tokens of pictures in prompts, from the processor's grid, after scale and merging"),
    Figure("prompt_tokens", _ALL, "tokens of prompts, those of pictures among them"),
    Figure("cached_tokens", _ANSWERER, "of these, those that a server had in its cache"),
    Figure("output_tokens", _ALL, "tokens written"),
    Figure("thinking_tokens", _ANSWERER, "of these, those of thoughts"),
    Figure("rounds", _ANSWERER, "requests to the model"),
    Figure("dollars", _ALL, "a server's charge, by the prices in the settings"),
)
"""All figures, in the order in which they are shown."""

_FIELDS = tuple(field.name for field in fields(Cost) if field.name not in ("more", "device"))


@cache
def figures_of(stage: Stage) -> tuple[str, ...]:
    """The names of the figures that a stage may tell."""
    return tuple(figure.name for figure in FIGURES if stage in figure.stages)


def known(cost: Cost, whole: Cost, stage: Stage) -> array[float]:
    """The figures of a cost and then those of a question alone; NaN for what is not known."""
    names = figures_of(stage)
    figures = array("d", map(_told(cost).get, names, repeat(math.nan)))
    # The cost of a result that shared nothing is that of its question alone.
    return figures + (figures if whole is cost else array("d", map(_told(whole).get, names, repeat(math.nan))))


def figure(cost: Cost, name: str) -> float | None:
    """A figure by its name; None where it is not known."""
    return _told(cost).get(name)


def _told(cost: Cost) -> Mapping[str, float]:
    """The figures of a cost that are known, by name."""
    told = dict(cost.more)
    # Without a prompt, and without frames in a model that tells nothing of itself, there are no pictures in prompts.
    if not (cost.prompt_tokens or told.get("frames_shown") or told.get("frames_scored")):
        told.setdefault("visual_tokens", 0.0)
    told.update({name: getattr(cost, name) for name in _FIELDS})
    return told


def spent(result: Relevance | Answer) -> Cost:
    """What a result took in its own run: nothing where it comes from a cache."""
    return Cost() if result.cached else result.cost


def alone(result: Relevance | Answer) -> Cost:
    """What a result takes if its question is the only one, whether it was computed or comes from a cache."""
    return result.cost if result.alone is None else result.alone


def scaled(figures: Mapping[str, float], share: float) -> dict[str, float]:
    """Figures of shared work, for one that pays this share of it."""
    return {name: value * share for name, value in figures.items()}


def added(cost: Cost, more: Mapping[str, float]) -> Cost:
    """A cost with further figures; those that it has are added up."""
    known = dict(cost.more)
    for name, value in more.items():
        known[name] = known.get(name, 0.0) + value
    return replace(cost, more=known)


def total(costs: Iterable[Cost]) -> Cost:
    """All figures added up; the device where all costs have the same."""
    seconds, prompt, output, dollars = 0.0, 0, 0, 0.0
    more: dict[str, float] = {}
    devices = set()
    for cost in costs:
        seconds += cost.seconds
        prompt += cost.prompt_tokens
        output += cost.output_tokens
        dollars += cost.dollars
        for name, value in cost.more.items():
            more[name] = more.get(name, 0.0) + value
        devices.add(cost.device)
    return Cost(seconds, prompt, output, dollars, more, devices.pop() if len(devices) == 1 else "")
