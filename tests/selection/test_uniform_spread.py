from __future__ import annotations

import numpy as np
import pytest

from pipeline.selection.uniform import VARIANTS, UniformVariant, spread


@pytest.mark.parametrize(
    ("variant", "frame_count", "budget", "expected"),
    [
        ("linspace", 100, 4, (0, 33, 66, 99)),
        ("linspace", 10, 4, (0, 3, 6, 9)),
        ("linspace", 8, 4, (0, 2, 4, 7)),  # 7/3 = 2.33, 4.67, 7: cut, not rounded
        ("linspace", 100, 1, (0,)),
        ("interior", 100, 4, (20, 40, 60, 80)),
        ("interior", 10, 2, (3, 6)),
        ("interior", 100, 1, (50,)),
        ("stride", 100, 4, (0, 25, 50, 75)),
        ("stride", 11, 4, (0, 2, 4, 6)),  # int(11/4) = 2: frames 8 to 10 are never seen
        ("stride", 100, 1, (0,)),
        ("midpoint", 100, 4, (12, 37, 62, 87)),
        ("midpoint", 10, 4, (1, 3, 6, 8)),
        ("midpoint", 100, 1, (50,)),
    ],
)
def test_variants_by_hand(variant: UniformVariant, frame_count: int, budget: int, expected: tuple[int, ...]) -> None:
    assert spread(frame_count, budget, variant) == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_video_and_budget_gives_distinct_frames_of_the_video_in_order(variant: UniformVariant) -> None:
    for frame_count in range(0, 40):
        for budget in range(1, 45):
            frames = spread(frame_count, budget, variant)
            assert len(frames) == min(frame_count, budget)
            assert list(frames) == sorted(set(frames))
            assert all(0 <= frame < frame_count for frame in frames)


def test_the_formulas_are_those_of_the_harnesses() -> None:
    """At most one frame lower where the harness multiplies floats, and never anything else."""
    for frame_count in (64, 751, 5400, 107892):
        for budget in (8, 16, 32, 64):
            theirs = {
                "linspace": np.linspace(0, frame_count - 1, budget, dtype=int).tolist(),
                "interior": [int(i * (frame_count / (budget + 1))) for i in range(1, budget + 1)],
                "stride": [int(frame_count / budget) * i for i in range(budget)],
            }
            for variant in ("linspace", "interior", "stride"):
                ours = spread(frame_count, budget, variant)
                differences = [our - their for our, their in zip(ours, theirs[variant], strict=True)]
                assert set(differences) <= {0, 1}
                assert sum(differences) <= budget // 8
