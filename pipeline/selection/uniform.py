"""Spreading a budget evenly over a video. There is no one uniform: four variants are in use, and recall differs.

On LongVideoBench's evidence, 8 frames of the 60 s videos see 0.770 of it with ``linspace`` and 0.812 with ``midpoint``;
so the variant is always named. With N native frames 0..N-1 and a budget of K:

* ``linspace``: floor(i (N-1) / (K-1)), i = 0..K-1; both ends. lmms-eval and LLaVA-Video, and so the uniform baseline of
  GenS: ``np.linspace(0, N - 1, K, dtype=int)``.
* ``interior``: floor(i N / (K+1)), i = 1..K; neither end. VLMEvalKit: ``int(i * N / (K + 1))``.
* ``stride``: floor(N / K) i, i = 0..K-1; the start, and never the rest of the division. LongVideoBench's own loader.
* ``midpoint``: floor((i + 1/2) N / K), i = 0..K-1; the middles of K equal parts. MVBench and InternVL, which take N - 1
  for N and round the start of each part.

The formulas are computed in whole numbers; where a harness multiplies floats it may land one native frame lower.
"""

from __future__ import annotations

from typing import Literal, get_args

from pipeline.errors import InputError

UniformVariant = Literal["linspace", "interior", "stride", "midpoint"]
VARIANTS: tuple[UniformVariant, ...] = get_args(UniformVariant)


def known_variant(name: str, question_id: str) -> UniformVariant:
    """The variant of this name, which a relevance gives.

    Raises:
        InputError: there is none.
    """
    for variant in VARIANTS:
        if variant == name:
            return variant
    raise InputError(
        f"{question_id!r} has the spread {name!r}, which is not a uniform variant",
        f"the relevance must name one of {', '.join(VARIANTS)}",
    )


def spread(frame_count: int, budget: int, variant: UniformVariant) -> tuple[int, ...]:
    """Native indices, ascending, each once: ``min(budget, frame_count)`` of them.

    A budget above the frame count gives every frame once. (The harnesses differ there: some repeat frames, which costs
    the answerer tokens and shows it nothing; LongVideoBench takes no more frames than the video has whole seconds.)
    """
    n, k = frame_count, min(budget, frame_count)
    if k < 1:
        return ()
    match variant:
        case "linspace":
            # np.linspace of one point is its start.
            return tuple(i * (n - 1) // (k - 1) for i in range(k)) if k > 1 else (0,)
        case "interior":
            return tuple(i * n // (k + 1) for i in range(1, k + 1))
        case "stride":
            return tuple(n // k * i for i in range(k))
        case "midpoint":
            return tuple((2 * i + 1) * n // (2 * k) for i in range(k))
