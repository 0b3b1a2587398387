"""Choosing moments far from each other: farthest-point order (Gonzalez, 1985, "Clustering to minimize the maximum
intercluster distance"), here in time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def farthest_first(times: Sequence[float], count: int, chosen: Sequence[float]) -> list[int]:
    """Positions in ``times`` of ``count`` moments, each as far as can be from all that were chosen before it.

    Starts from the moments ``chosen`` already, or where there are none from the earliest of ``times``. Equal distances
    go to the earlier moment, so the result is the same each time.

    Args:
        times: seconds, ascending.
        count: how many to choose; all of ``times`` if there are fewer.
        chosen: seconds, in any order.
    """
    if not times:
        return []
    moments = np.asarray(times, dtype=np.float64)
    distance = np.full(len(moments), np.inf)
    for moment in chosen:
        np.minimum(distance, np.abs(moments - moment), out=distance)
    picked: list[int] = []
    for _ in range(min(count, len(moments))):
        nearest = int(np.argmax(distance))  # the first of equals
        picked.append(nearest)
        np.minimum(distance, np.abs(moments - moments[nearest]), out=distance)
        distance[nearest] = -1.0  # never again, though another moment may coincide with it
    return picked
