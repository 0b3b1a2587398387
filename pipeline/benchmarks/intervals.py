"""Confidence intervals that account for the dependence of questions about one video.

Three questions about one video stand or fall together, so an interval that takes them for three independent draws is
too narrow. The standard error is the cluster-robust one (Liang and Zeger 1986) of a regression on a constant, clusters
being videos, with the usual small-sample factor G/(G-1) * (N-1)/(N-K), and the quantile is Student's t with G-1 degrees
of freedom; both as statsmodels has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
CLUSTERED = "clustered by video"
WILSON = "Wilson, one draw a video"

_NO_SPREAD = 1e-9
"""Standard errors below this are zero but for rounding."""


@dataclass(frozen=True)
class Interval:
    """The 95 % confidence interval."""

    low: float
    high: float
    videos: int
    """Clusters that it rests on."""
    method: str
    """``clustered by video``; or ``Wilson, one draw a video`` where the videos do not differ, for instance because
    every answer is right, so that no spread between them can be estimated."""


def share_interval(
    credits: Sequence[float], videos: Sequence[str], strata: Sequence[str] | None = None
) -> Interval | None:
    """The interval of a mean of values in 0..1; None with fewer than two videos, of which nothing can be said.

    Args:
        credits: what each question is worth.
        videos: the video of each.
        strata: the label of each, if the mean is that over the labels' own means (MLVU's M-Avg), each weighing alike.
    """
    found = _mean_and_margin(credits, videos, strata)
    if found is None:
        return None
    mean, margin = found
    count = len(set(videos))
    if margin > _NO_SPREAD:
        return Interval(max(0.0, mean - margin), min(1.0, mean + margin), count, CLUSTERED)
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(mean * count, count, alpha=1 - LEVEL, method="wilson")
    return Interval(max(0.0, float(low)), min(1.0, float(high)), count, WILSON)


def difference_interval(differences: Sequence[float], videos: Sequence[str]) -> Interval | None:
    """The interval of a mean of paired differences in -1..1.

    None with fewer than two videos, or where every question differs by the same: then no spread can be estimated.
    """
    found = _mean_and_margin(differences, videos, None)
    if found is None or found[1] <= _NO_SPREAD:
        return None
    mean, margin = found
    return Interval(max(-1.0, mean - margin), min(1.0, mean + margin), len(set(videos)), CLUSTERED)


def _mean_and_margin(
    values: Sequence[float], videos: Sequence[str], strata: Sequence[str] | None
) -> tuple[float, float] | None:
    """Mean (or mean of the strata's means) and half the interval's width; None where that cannot be estimated."""
    named = list(dict.fromkeys(strata)) if strata is not None else []
    columns = max(1, len(named))
    if len(set(videos)) < 2 or len(values) <= columns:
        return None
    from statsmodels.regression.linear_model import OLS

    design = np.ones((len(values), 1))
    if strata is not None:
        design = np.array([[float(stratum == name) for name in named] for stratum in strata])
    groups = np.unique(np.asarray(videos), return_inverse=True)[1]
    fit = OLS(np.asarray(values, dtype=float), design).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    # Without any spread, rounding may leave a variance just below zero, and its root is not a number.
    with np.errstate(invalid="ignore"):
        test = fit.t_test(np.full((1, columns), 1 / columns))
        low, high = (float(end) for end in test.conf_int(alpha=1 - LEVEL)[0])
    margin = (high - low) / 2
    return float(test.effect[0]), margin if np.isfinite(margin) else 0.0
