"""One measure for the similarity of frames, and of frame and question, and the greedy choice under it.

Source: MDP3, "A Training-free Approach for List-wise Frame Selection in Video-LLMs" (arXiv 2501.02885), and its
released code; the incremental Cholesky factor is that of Chen et al., "Fast Greedy MAP Inference for Determinantal
Point Process" (arXiv 1709.05135).
"""

from __future__ import annotations

import numpy as np

from pipeline.selection.choice import Floats

_SCALES = tuple(2.0**power for power in range(-3, 2))
SELF = float(len(_SCALES))
"""The kernel of a frame with itself."""
_NOTHING_NEW = 1e-9
"""Share of ``SELF`` below which a frame is a combination of those chosen: rounding, not information."""


def kernel(cosines: Floats) -> Floats:
    """``k = sum over a in 1/8, 1/4, 1/2, 1, 2 of exp(-|x - y|^2 / (2 a))``; of unit vectors |x - y|^2 = 2 - 2 cos."""
    squared = np.clip(2.0 - 2.0 * cosines, 0.0, 4.0)
    total: Floats = np.sum([np.exp(-squared / (2.0 * scale)) for scale in _SCALES], axis=0)
    return total


def qualities(scores: Floats, weight: float) -> Floats:
    """``(2 / weight) log r``, where r is the kernel of frame and question, for scores that are their cosine."""
    quality: Floats = 2.0 / weight * np.log(kernel(np.clip(scores, -1.0, 1.0)))
    return quality


def greedy(quality: Floats, vectors: Floats, count: int, given: Floats) -> tuple[Floats, list[list[int]]]:
    """The lists that maximise ``sum of quality + logdet of the kernel`` step by step, for many starts at once.

    A start is one frame that has been chosen before, or none. Equal gains go to the earlier candidate. A list ends
    early where every candidate left is, to rounding, a combination of those chosen: it would show nothing new.

    Args:
        quality: ``[candidates]``.
        vectors: ``[candidates, dimensions]``, of unit length.
        count: how long the lists may get.
        given: ``[starts, candidates]``, the kernel of the start's frame with every candidate; zeros for none.

    Returns:
        ``[starts, steps]`` gains, ``-inf`` from where a list has ended, and each start's candidates in the order taken.
    """
    starts, candidates = given.shape
    every = np.arange(starts)
    rows = np.zeros((starts, count + 1, candidates))
    rows[:, 0] = given / np.sqrt(SELF)
    left = SELF - rows[:, 0] ** 2  # squared distance of each candidate from what its start has chosen
    gains = np.full((starts, count), -np.inf)
    lists: list[list[int]] = [[] for _ in range(starts)]
    for step in range(min(count, candidates)):
        informative = left > _NOTHING_NEW * SELF
        gain = np.where(informative, quality + np.log(np.where(informative, left, 1.0)), -np.inf)
        best = gain.argmax(axis=1)
        running = np.isfinite(gain[every, best])
        if not running.any():
            break
        gains[running, step] = gain[every, best][running]
        for start in np.flatnonzero(running):
            lists[start].append(int(best[start]))
        distinct, places = np.unique(best, return_inverse=True)  # starts mostly agree
        new = kernel(vectors[distinct] @ vectors.T)[places]
        known = np.einsum("sr,src->sc", rows[every, : step + 1, best], rows[:, : step + 1])
        row = (new - known) / np.sqrt(np.maximum(left[every, best], _NOTHING_NEW * SELF))[:, None]
        rows[:, step + 1] = row
        left = left - row**2
        left[every, best] = 0.0
    return gains, lists
