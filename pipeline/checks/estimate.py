"""How long a run will take and what it will cost, each figure with its source; what was not measured is unknown.

The rows of earlier runs with the same settings come first, the speed table second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pipeline.checks.limits import Load
from pipeline.checks.past import PastSpeed
from pipeline.checks.plan import Plan
from pipeline.checks.speed import Rate, window_seconds

_MILLION = 1_000_000


@dataclass(frozen=True)
class Estimate:
    """A time or a sum."""

    amount: float | None
    """Seconds, or dollars; None: unknown."""
    source: str
    """Where the figure comes from, or why there is none."""


class Prices(Protocol):
    """Dollars for a million tokens; None where they are not known."""

    @property
    def input(self) -> float | None:
        """The price of frames and words."""
        ...

    @property
    def output(self) -> float | None:
        """The price of the answer."""
        ...


@runtime_checkable
class Priced(Protocol):
    """An answerer that costs money."""

    @property
    def prices(self) -> Prices:
        """The prices of its server."""
        ...


def shared(estimate: Estimate, workers: int) -> Estimate:
    """A time for one worker, where several work side by side."""
    if workers == 1 or not estimate.amount:
        return estimate
    return Estimate(estimate.amount / workers, f"{workers} workers side by side; {estimate.source}")


NOTHING_TO_DO = Estimate(0.0, "nothing is left to do")
NO_PICTURES = Estimate(0.0, "the sampler needs no frames")


def sampling(
    plan: Plan,
    windows: PastSpeed | None,
    video: PastSpeed | None,
    rate: Rate | None,
    by_questions: Sequence[Rate],
    machine: str,
) -> Estimate:
    """Seconds of the first stage.

    Args:
        plan: what is left.
        windows: seconds a window in earlier runs.
        video: seconds a second of video in earlier runs, for where windows say nothing.
        rate: from the speed table; without decoding.
        by_questions: from the speed table, where it tells how a window's time grows with its questions.
        machine: this one's GPU.
    """
    if not plan.open:
        return NOTHING_TO_DO
    if not plan.reads_frames:
        return NO_PICTURES
    if plan.windows and windows is not None:
        return Estimate(plan.windows * windows.rate, _told(windows, "window"))
    if video is not None:
        return Estimate(plan.video_seconds * video.rate, _told(video, "second of video"))
    if plan.windows and by_questions:
        return _by_questions(plan, by_questions, machine)
    units = {
        "window": plan.windows,
        "window_question": plan.window_questions,
        "question": plan.open,
        "video_second": plan.video_seconds,
    }
    return _from_table(rate, units, "sampler", machine)


def decoding(plan: Plan, includes_decoding: bool, rate: Rate | None) -> Estimate:
    """Seconds of reading the videos for the first stage, where the sampler's own figure is without it."""
    if not plan.open:
        return NOTHING_TO_DO
    if not plan.reads_frames:
        return NO_PICTURES
    if includes_decoding:
        return Estimate(0.0, "part of the sampler's figure")
    return _from_table(rate, {"video_second": plan.video_seconds}, "reader", "")


def answering(loads: Sequence[Load], past: PastSpeed | None, rate: Rate | None, machine: str) -> Estimate:
    """Seconds of the second stage over the questions that are left."""
    if not loads:
        return NOTHING_TO_DO
    frames = sum(load.shown for load in loads)
    if past is not None:
        return Estimate(frames * past.rate, _told(past, "frame"))
    return _from_table(rate, {"frame": frames, "question": len(loads)}, "answerer", machine)


def money(loads: Sequence[Load], answer_tokens: int, prices: Prices | None) -> Estimate:
    """Dollars of the second stage, at most: every selection full and every answer as long as it may be."""
    if prices is None:
        return Estimate(0.0, "the answerer costs nothing by itself")
    if prices.input is None or prices.output is None:
        return Estimate(None, "no prices are known: answerer.prices.input=... answerer.prices.output=...")
    prompt, output = sum(load.tokens for load in loads), len(loads) * answer_tokens
    dollars = (prompt * prices.input + output * prices.output) / _MILLION
    return Estimate(dollars, f"at most: {prompt} tokens to read and {output} to write, at the prices of the settings")


def _told(past: PastSpeed, unit: str) -> str:
    return f"{past.rate:.3g} s a {unit} in {', '.join(past.runs)} ({past.questions} questions)"


def _from_table(rate: Rate | None, units: dict[str, float | int | None], part: str, machine: str) -> Estimate:
    """``machine`` empty: none that is known well enough to say whether it is the same."""
    if rate is None:
        return Estimate(None, f"unknown: this {part} was not measured; a run with limit=8 measures it")
    count = units.get(rate.per)
    if count is None:
        return Estimate(None, f"unknown: what was measured is a {rate.per}, which does not tell here")
    return Estimate(
        count * rate.seconds, _measured(f"{rate.seconds:g} s a {rate.per.replace('_', ' ')}", rate, machine)
    )


def _by_questions(plan: Plan, rates: Sequence[Rate], machine: str) -> Estimate:
    """Each window by the number of its questions."""
    seconds = sum((each.windows or 0) * window_seconds(rates, len(each.questions)) for each in plan.passes)
    asked = [len(each.questions) for each in plan.passes if each.windows]
    nearest = [*rates[:1], *(rate for rate in rates if rate.questions and rate.questions <= max(asked))][-1]
    mean = seconds / (plan.windows or 1)
    return Estimate(seconds, _measured(f"{mean:.3g} s a window with {_range(asked)}", nearest, machine))


def _range(counts: Sequence[int]) -> str:
    few, many = min(counts), max(counts)
    return f"{few} question{'' if few == 1 else 's'}" if few == many else f"{few} to {many} questions"


def _measured(what: str, rate: Rate, machine: str) -> str:
    other = f", and here is {machine}" if machine and rate.machine not in machine else ""
    return f"{what} on {rate.machine}{other}: {rate.conditions}"
