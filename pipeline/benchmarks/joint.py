"""Figures of several runs over the same questions, as CG-Bench has them (arXiv 2412.12075).

* CRR, the clue recovery rate: min(long, clue) / clue, with the accuracies over the whole video (*long-acc*) and over
  the frames of the clues (*clue-acc*). 1: the model finds in the whole video what it can answer from the clues.
* rec@IoU: the mean over t = .1, .2 ... .5 of the share of questions whose intervals have an IoU of at least t.
* acc@IoU: the same, of the questions that are answered right over the whole video too.

The authors' code takes IoU >= t, and VLMEvalKit's IoU > t; both are given. Theirs leave out what they cannot read and
count acc@IoU among the questions that have both answers. Strictly, all questions that were asked count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RECALLED_AT = (0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class JointFigures:
    """Counted by one rule; None where a run is missing, or nothing counts."""

    long_acc: float | None
    clue_acc: float | None
    crr: float | None
    miou: float | None
    rec_at_iou: float | None
    rec_above_iou: float | None
    """With VLMEvalKit's ``>``."""
    acc_at_iou: float | None
    acc_above_iou: float | None
    """With VLMEvalKit's ``>``."""
    both: int
    """Questions of which the answer and the intervals count."""


Values = Mapping[str, float | None]
"""By question: what its answer is worth, or its IoU; None where the rule does not count it."""


def joint_figures(long: Values, clue: Values | None, ious: Values | None) -> JointFigures:
    """The figures of up to three runs over the same questions."""
    long_acc, clue_acc = _mean(_counted(long)), None if clue is None else _mean(_counted(clue))
    intervals = [] if ious is None else _counted(ious)
    pairs = [
        (right, value)
        for id, right in long.items()
        if right is not None and (value := (ious or {}).get(id)) is not None
    ]
    return JointFigures(
        long_acc=long_acc,
        clue_acc=clue_acc,
        crr=None if long_acc is None or not clue_acc else min(long_acc, clue_acc) / clue_acc,
        miou=_mean(intervals),
        rec_at_iou=_over_thresholds([[value >= t for value in intervals] for t in RECALLED_AT]),
        rec_above_iou=_over_thresholds([[value > t for value in intervals] for t in RECALLED_AT]),
        acc_at_iou=_over_thresholds([[right == 1 and value >= t for right, value in pairs] for t in RECALLED_AT]),
        acc_above_iou=_over_thresholds([[right == 1 and value > t for right, value in pairs] for t in RECALLED_AT]),
        both=len(pairs),
    )


def _counted(values: Values) -> list[float]:
    return [value for value in values.values() if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _over_thresholds(hits: Sequence[Sequence[bool]]) -> float | None:
    return _mean([sum(at) / len(at) for at in hits]) if hits[0] else None
