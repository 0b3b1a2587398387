"""Labels that options carry in a file, ``A. red`` or ``(B) blue``; whoever shows options puts others before them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.domain import OPTION_LETTERS


def without_labels(options: Sequence[str]) -> tuple[str, ...]:
    """The options' words, without labels of their own where all have them.

    One alone is not a label: of ``A. Smith`` and ``Jones`` both are names.
    """
    own = [
        re.match(rf"\s*\(?{letter}[.):]\s+(?=\S)", option)
        for letter, option in zip(OPTION_LETTERS, options, strict=False)
    ]
    ends = [label.end() for label in own if label]
    labels = ends if len(ends) == len(options) else [0] * len(options)
    return tuple(option[end:].strip() for end, option in zip(labels, options, strict=True))
