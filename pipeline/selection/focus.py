"""The last step of FOCUS: some of the best frames that were scored, the rest from the best stretches of time.

Source: FOCUS, "Efficient Keyframe Selection for Long Video Understanding" (arXiv 2510.27280), and ``focus.py`` of
github.com/NUS-HPC-AI-Lab/FOCUS. Stretches of about 16 s are the arms of a bandit. Its first steps, in which few frames
are scored, are :mod:`pipeline.samplers.focus`.

As released, an arm knows only the scores of the first round: those of the second, which read the best arms frame by
frame, never reach it. They neither change its place among the arms nor the probability of its frames. The corrected
form counts them. The bonus for arms of which little is known then has to go, since with 3 ln N / n it would put every
arm that was not read before all that were (6.5 for three samples of 675, against means of 0 to 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from pipeline.identity import Identified
from pipeline.selection.choice import Curve, Floats

_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Focus(Identified):
    """Takes the best ``round(top K)`` of the scored frames, then equally many from each of the best arms.

    * The arms are ``max(least_arms, ceil(span / arm_seconds))`` runs of equally many candidates.
    * The best S = ``share`` of them, from ``fewest`` to ``most``, share the rest of K; the first get what is over.
    * In an arm, frames are drawn without replacement by softmax(s / temperature), with the estimates s of the frames
      that are not chosen yet scaled to 0..1. The estimate of a frame is the score of the nearest scored one in the arm.

    With a sampler that scores all frames, all of them are samples of the one round.
    """

    kind: ClassVar[str] = "focus"
    needs_embeddings: ClassVar[bool] = False

    samples: Literal["all", "first_round"]
    """The scores by which arms are compared and frames estimated. ``first_round`` is FOCUS as released: arms are in the
    order of :func:`upper_bounds`. ``all`` is the corrected form: arms are in the order of their mean."""
    arm_seconds: float
    least_arms: int
    top: float
    """Share of the budget for the best scored frames, wherever they are."""
    share: float
    """Share of the arms that give the rest."""
    fewest: int
    """Arms that give the rest, at least."""
    most: int
    """Arms that give the rest, at most."""
    temperature: float
    seed: int

    def __post_init__(self) -> None:
        check_arms("selection.choice", self.arm_seconds, self.least_arms)
        given = {
            "top": (0 <= self.top <= 1, "0.2"),
            "share": (0 < self.share <= 1, "0.25"),
            "fewest": (1 <= self.fewest <= self.most, "4"),
            "temperature": (self.temperature > 0, "0.06"),
            "seed": (self.seed >= 0, "42"),
        }
        for key, (is_valid, usual) in given.items():
            if not is_valid:
                raise ConfigError(
                    f"selection.choice.{key}={getattr(self, key)} cannot be", f"set selection.choice.{key}={usual}"
                )

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most ``count`` named candidates; none of constant scores, which the policy spreads."""
        if curve.scores.min() == curve.scores.max():
            return []
        rounds = np.zeros(len(curve.times), dtype=np.intp) if curve.rounds is None else curve.rounds
        read = np.flatnonzero(rounds >= 0)
        picked = curve.best(round(self.top * min(count, len(read))), among=read)
        known = read if self.samples == "all" else np.flatnonzero(rounds == 0)
        arms = arms_of(curve.times, self.arm_seconds, self.least_arms)
        of_arms = [known[(known >= arm.start) & (known < arm.stop)] for arm in arms]
        samples = [curve.scores[places] for places in of_arms]
        if self.samples == "all":
            order = best_arms([float(each.mean()) if len(each) else -math.inf for each in samples])
        else:
            order = best_arms(upper_bounds(samples))
        giving = order[: min(max(math.ceil(self.share * len(arms)), self.fewest), self.most, len(arms))]
        each, over = divmod(count - len(picked), len(giving))
        generator = np.random.default_rng(self.seed)
        for rank, number in enumerate(giving):
            arm = np.arange(arms[number].start, arms[number].stop)
            left = arm[curve.named[arm] & ~np.isin(arm, picked)]
            if len(left) and len(of_arms[number]):
                scores = estimates(left, of_arms[number], samples[number])
                picked += [int(left[place]) for place in self._drawn(scores, each + (rank < over), generator)]
        return picked

    def _drawn(self, scores: Floats, count: int, generator: np.random.Generator) -> npt.NDArray[np.intp]:
        """Positions, drawn without replacement: the largest of log p + Gumbel noise (arXiv 1903.06059)."""
        low, high = scores.min(), scores.max()
        scaled = (scores - low) / (high - low) if high > low else np.ones_like(scores)
        keys = scaled / self.temperature + generator.gumbel(size=len(scores))
        return np.argsort(-keys, kind="stable")[:count]


def check_arms(at: str, arm_seconds: float, least_arms: int) -> None:
    """Refuse settings that give no arms.

    Raises:
        ConfigError: with the key, which begins with ``at``.
    """
    if not arm_seconds > 0:
        raise ConfigError(f"{at}.arm_seconds={arm_seconds} is not a length", f"set {at}.arm_seconds=16.0")
    if least_arms < 1:
        raise ConfigError(f"{at}.least_arms={least_arms} makes no arm", f"set {at}.least_arms=8")


def arms_of(times: Floats, arm_seconds: float, least_arms: int) -> list[range]:
    """Positions of the candidates of each arm, in order of time; every candidate is in one.

    As released, the last frames of a video, fewer than there are arms, are in none.
    """
    span = float(times[-1] - times[0])
    count = min(len(times), max(least_arms, math.ceil(span / arm_seconds)))
    return [range(number * len(times) // count, (number + 1) * len(times) // count) for number in range(count)]


def upper_bounds(samples: Sequence[Floats]) -> list[float]:
    """``mean + sqrt(2 ln N var / n) + 3 ln N / n`` of each arm's n scores, N of all arms; ``-inf`` without a score."""
    total = sum(map(len, samples))
    if total < 2:
        return [float(each.mean()) if len(each) else -math.inf for each in samples]
    found = []
    for each in samples:
        if len(each):
            variance = max(float(each.var()), _LEAST_VARIANCE)
            bonus = math.sqrt(2 * math.log(total) * variance / len(each)) + 3 * math.log(total) / len(each)
            found.append(float(each.mean()) + bonus)
        else:
            found.append(-math.inf)
    return found


def best_arms(values: Sequence[float]) -> list[int]:
    """Numbers of the arms, the one of the highest value first; of equal ones the earlier."""
    return sorted(range(len(values)), key=lambda number: -values[number])


def estimates(places: npt.NDArray[np.intp], known: npt.NDArray[np.intp], scores: Floats) -> Floats:
    """For each of the places, the score at the nearest known one, of two the earlier; ``known`` ascends."""
    found: Floats = scores[np.abs(places[:, None] - known[None, :]).argmin(axis=1)]
    return found
