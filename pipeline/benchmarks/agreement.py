"""How far two judges agree, beyond chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def weighted_kappa(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Cohen's kappa with quadratic weights (Cohen 1968), of grades of the same answers on one scale.

    1 - D / E: D is the mean squared difference of the two grades of an answer, E that of all pairs of a grade of one
    judge and a grade of the other. For two grades, right and wrong, it is Cohen's plain kappa. None where both judges
    give one and the same grade to all answers, or there are no answers: then chance explains all.
    """
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not one.size:
        return None
    expected = float(one.var() + other.var() + (one.mean() - other.mean()) ** 2)
    return 1.0 - float(np.mean((one - other) ** 2)) / expected if expected > 1e-12 else None
