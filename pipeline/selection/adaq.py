"""Frames drawn with a probability whose temperature is the spread of the scores: clear peaks draw all of the budget.

Source: AdaQ (arXiv 2606.24187), of which there is no code. Two points of the paper are open, and are settled here as
settings of ours: whether the probabilities are of the raw or of the scaled scores (``scores``), and what the "3-sigma
interval" is: the most probable frames that together have a probability of 0.9973 (``interval``), since the paper
speaks of "cumulative probability coverage" over "reordered" indices. The paper draws at random and reports the mean of
three draws, which differ by up to 1.6 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from pipeline.identity import Identified
from pipeline.selection.choice import Curve, Floats
from pipeline.selection.inverse_transform import even_steps


@dataclass(frozen=True)
class AdaQ(Identified):
    """Selects K frames by probabilities that are a softmax of the scores.

    With scores s, and s' those scaled to 0..1 over the video:

        tau = gamma * Var(s'), p_i = exp(s_i / tau) / sum, Z = the fewest frames, by p, whose sum reaches ``interval``,

    and K frames of Z are drawn. Where Z has fewer, the most probable of the others follow. Frames that are not named
    have no probability. Constant scores, for which tau is 0, give every frame the same.

    Scores of GenS: Var(s') of a few 5 among many 0 is small, so that only the best level is drawn from.
    """

    kind: ClassVar[str] = "adaq"
    needs_embeddings: ClassVar[bool] = False

    gamma: float
    """0.5 in the paper, 1.5 for LongCLIP on Video-MME."""
    scores: Literal["raw", "scaled"]
    """The s of p: the sampler's own, whose scale the result then depends on, or s'."""
    interval: float
    """0.9973 for three sigma, 0.9545 for two."""
    draw: Literal["even", "random"]
    """``even``: at even steps of the accumulated probability, as ``inverse_transform`` does, without a random number.
    ``random``: without replacement, as in the paper, the same each time for a ``seed``."""
    seed: int
    """Of ``draw=random``."""

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ConfigError(
                f"selection.choice.gamma={self.gamma} is not a temperature", "set selection.choice.gamma=0.5"
            )
        if not 0 < self.interval <= 1:
            raise ConfigError(
                f"selection.choice.interval={self.interval} is not a probability",
                "set selection.choice.interval=0.9973",
            )
        if self.seed < 0:
            raise ConfigError(f"selection.choice.seed={self.seed} is negative", "set selection.choice.seed=0")

    def choose(self, curve: Curve, count: int) -> Sequence[int]:
        """At most ``count`` named candidates."""
        named = curve.named_positions
        likely = self.log_probabilities(curve)[named]
        drawn = interval(likely, self.interval)
        if len(drawn) <= count or (count == 1 and self.draw == "even"):
            return curve.best(count)  # p rises with the score
        if self.draw == "random":
            # The largest log p + Gumbel noise are draws without replacement (arXiv 1903.06059).
            noise = np.random.default_rng(self.seed).gumbel(size=len(likely))[drawn]
            order = np.argsort(-(likely[drawn] + noise), kind="stable")
            return [int(named[drawn[place]]) for place in order[:count]]
        return [int(named[drawn[place]]) for place in even_steps(np.exp(likely[drawn]), count)]

    def log_probabilities(self, curve: Curve) -> Floats:
        """The logarithm of p for every candidate, over the named ones; ``-inf`` for the others."""
        scaled = curve.normalised()
        temperature = self.gamma * float(np.var(scaled))
        of = scaled if self.scores == "scaled" else curve.scores
        exponents = of / temperature if temperature > 0 else np.zeros_like(of)
        exponents = np.where(curve.named, exponents, -np.inf)
        exponents -= exponents.max()  # so that exp cannot overflow
        result: Floats = exponents - np.log(np.exp(exponents).sum())
        return result


def interval(log_probabilities: Floats, share: float) -> npt.NDArray[np.intp]:
    """Positions, ascending, of the fewest frames whose probabilities sum up to ``share``; of equal ones the earlier."""
    order = np.argsort(-log_probabilities, kind="stable")
    reached = np.cumsum(np.exp(log_probabilities[order]))
    return np.sort(order[: int(np.searchsorted(reached, min(share, reached[-1]))) + 1])
