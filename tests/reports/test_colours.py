"""Text and controls can be told from what they stand on, in the light and in the dark (WCAG 2.2, AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pipeline.reports

STYLE = (Path(pipeline.reports.__file__).parent / "templates" / "page.css").read_text()
THEMES = dict(zip(("light", "dark"), re.findall(r":root \{(.*?)\}", STYLE, re.S), strict=True))
TEXT = [
    *((ink, ground) for ink in ("ink", "muted", "link") for ground in ("page", "surface")),
    ("ink", "sunk"),
    ("ink", "failed-tint"),
    ("page", "ink"),
    ("failed", "surface"),
    ("right", "surface"),
    *((verdict, f"{verdict}-tint") for verdict in ("right", "wrong", "failed")),
]
SHAPES = [("control", "page"), ("control", "surface"), *((f"line-{at}", "surface") for at in range(8))]


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("pairs", "least"), [(TEXT, 4.5), (SHAPES, 3.0)], ids=["text", "shapes"])
def test_contrast(theme: str, pairs: list[tuple[str, str]], least: float) -> None:
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", THEMES[theme]))
    for front, back in pairs:
        lighter, darker = sorted((_luminance(colours[front]), _luminance(colours[back])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= least, (front, back)
