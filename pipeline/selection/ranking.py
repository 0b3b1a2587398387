"""The best scores first, with a rule for equal ones and, where it is asked for, a distance to be kept in time.

Equal scores farthest from each other is the farthest-point order (Gonzalez, 1985, "Clustering to minimize the maximum
intercluster distance"), here in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = Sequence[float] | npt.NDArray[np.float64]

Ties = Literal["earliest", "spread"]
"""Which of equal scores comes first: the earliest, or the one farthest in time from all that are already chosen."""


def best_first(
    times: Numbers, scores: Numbers, count: int, ties: Ties, chosen: Numbers = (), apart: float = 0.0
) -> list[int]:
    """Positions in ``times`` of ``count`` moments, the best score first.

    Equal distances go to the earlier moment, and where nothing is chosen yet the earliest is, so the result is the same
    each time.

    Args:
        times: seconds, ascending.
        scores: parallel to ``times``.
        count: how many to take; fewer come back if there are no more, or none far enough.
        ties: the rule for equal scores.
        chosen: seconds that are already selected, in any order.
        apart: the smallest distance in seconds to ``chosen`` and to those selected before.
    """
    moments = np.asarray(times, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    distance = np.full(len(moments), np.inf)
    for moment in chosen:
        np.minimum(distance, np.abs(moments - moment), out=distance)
    left = np.ones(len(moments), dtype=np.bool_)
    picked: list[int] = []
    while len(picked) < min(count, len(moments)):
        open_ = np.flatnonzero(left & (distance >= apart))
        if not len(open_):
            break
        tied = open_[values[open_] == values[open_].max()]
        pick = int(tied[0] if ties == "earliest" else tied[np.argmax(distance[tied])])
        picked.append(pick)
        left[pick] = False
        np.minimum(distance, np.abs(moments - moments[pick]), out=distance)
    return picked
