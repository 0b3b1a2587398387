"""Headless Chromium, where there is one: what a page is after its script has run, and how long it takes to open."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)

needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH")


def dom(page: Path, scratch: Path, state: str = "", virtual_ms: int = 20_000) -> str:
    """The document after its script has run, opened from the disk with ``#state``."""
    return _run(f"{page.as_uri()}#{state}", scratch, f"--virtual-time-budget={virtual_ms}")


def evaluated(page: Path, scratch: Path, script: str, size: str = "1280,900") -> Any:
    """What ``script`` gives as the body of an async function in the page, opened from the disk."""
    to_browser, ours = os.pipe()
    theirs, from_browser = os.pipe()
    command = [*_COMMAND, f"--user-data-dir={scratch / 'profile'}", f"--window-size={size}", "--remote-debugging-pipe"]
    # Chromium reads commands from descriptor 3 and writes to 4, each message ended by a zero byte.
    shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *command, "about:blank"],
        pass_fds=(to_browser, from_browser),
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        with os.fdopen(ours, "wb", buffering=0) as commands, os.fdopen(theirs, "rb") as replies:

            def ask(number: int, method: str, session: str | None = None, **given: Any) -> Any:
                named = {} if session is None else {"sessionId": session}
                commands.write(json.dumps({"id": number, "method": method, "params": given, **named}).encode() + b"\0")
                text = b""
                while True:
                    byte = replies.read1(1)
                    assert byte, "Chromium has ended"
                    text += byte
                    if text.endswith(b"\0"):
                        reply = json.loads(text[:-1])
                        text = b""
                        if reply.get("id") == number:
                            return reply["result"]

            target = ask(1, "Target.createTarget", url=page.as_uri())["targetId"]
            session = ask(2, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            number = itertools.count(3)
            is_there = 'location.protocol === "file:" && document.readyState === "complete"'
            while not ask(next(number), "Runtime.evaluate", session, expression=is_there)["result"].get("value"):
                time.sleep(0.02)
            expression = f"(async () => {{ {script} }})()"
            found = ask(
                next(number), "Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True
            )
            assert "exceptionDetails" not in found, found["exceptionDetails"]
            return found["result"].get("value")
    finally:
        process.kill()
        process.wait()


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


_COMMAND = (CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu")


def _run(address: str, scratch: Path, *flags: str) -> str:
    command = [*_COMMAND, f"--user-data-dir={scratch / 'profile'}", *flags]
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
