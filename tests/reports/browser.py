"""Headless Chromium, where there is one: what a page is after its script has run, and how long it takes to open."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)

needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH")


def dom(page: Path, scratch: Path, state: str = "", virtual_ms: int = 20_000) -> str:
    """The document after its script has run, opened from the disk with ``#state``."""
    return _run(f"{page.as_uri()}#{state}", scratch, f"--virtual-time-budget={virtual_ms}")


def opening_ms(page: Path, scratch: Path) -> float:
    """Milliseconds until the page is loaded and could be used, in a frame of 1280 x 900."""
    frame = scratch / "frame.html"
    frame.write_text(
        "<!doctype html><script>const began = performance.now()</script>"
        f'<iframe src="{page.as_uri()}" width="1280" height="900"'
        ' onload="document.title = performance.now() - began"></iframe>'
    )
    told = re.search(r"<title>([\d.]+)</title>", _run(frame.as_uri(), scratch))
    assert told
    return float(told.group(1))


def _run(address: str, scratch: Path, *flags: str) -> str:
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={scratch / 'profile'}",
        *flags,
    ]
    return subprocess.run(
        [*command, "--window-size=1280,900", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


class Cards(HTMLParser):
    """The cards that a reader sees, by id of the element, and what the page says of their number."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.visible: list[str] = []
        self.told = ""
        self._telling = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "article" and "hidden" not in found:
            self.visible.append(found["id"] or "")
        self._telling = found.get("role") == "status"

    def handle_data(self, data: str) -> None:
        if self._telling:
            self.told += data.strip()

    def handle_endtag(self, tag: str) -> None:
        self._telling = False
