"""Headless Chromium, where there is one: what a page is after its script has run, and how long it takes to open."""

from __future__ import annotations

import base64
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


def evaluated(page: Path | str, scratch: Path, script: str, size: str = "1280,900", dark: bool = False) -> Any:
    """What ``script`` gives as the body of an async function in the page, opened from the disk or at an address.

    In it, ``await shot("NAME.png")`` takes a picture of the window into ``scratch``.
    """
    address = page if isinstance(page, str) else page.as_uri()
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
            text = b""

            def received() -> Any:
                nonlocal text
                while not text.endswith(b"\0"):
                    byte = replies.read1(1)
                    assert byte, "Chromium has ended"
                    text += byte
                message, text = json.loads(text[:-1]), b""
                return message

            def send(number: int, method: str, session: str | None = None, **given: Any) -> None:
                named = {} if session is None else {"sessionId": session}
                commands.write(json.dumps({"id": number, "method": method, "params": given, **named}).encode() + b"\0")

            def ask(method: str, session: str | None = None, **given: Any) -> Any:
                """The result of a command. Pictures that the page wants meanwhile are taken."""
                number = next(numbers)
                send(number, method, session, **given)
                while True:
                    message = received()
                    if message.get("id") == number:
                        return message["result"]
                    if message.get("method") == "Runtime.bindingCalled":
                        name = message["params"]["payload"]
                        picture = ask("Page.captureScreenshot", session)["data"]
                        (scratch / name).write_bytes(base64.b64decode(picture))
                        done = f"shot.done[{json.dumps(name)}]()"
                        send(next(numbers), "Runtime.evaluate", session, expression=done)

            numbers = itertools.count(1)
            target = ask("Target.createTarget", url="about:blank")["targetId"]
            session = ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            width, height = map(int, size.split(","))
            shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            ask("Emulation.setDeviceMetricsOverride", session, **shape)
            scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            ask("Emulation.setEmulatedMedia", session, features=scheme)
            ask("Runtime.enable", session)
            ask("Runtime.addBinding", session, name="wantsShot")
            ask("Page.navigate", session, url=address)
            is_there = f'location.href.startsWith({json.dumps(address)}) && document.readyState === "complete"'
            while not ask("Runtime.evaluate", session, expression=is_there)["result"].get("value"):
                time.sleep(0.02)
            found = ask(
                "Runtime.evaluate",
                session,
                expression=f"{_SHOT}(async () => {{ {script} }})()",
                awaitPromise=True,
                returnByValue=True,
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


_SHOT = "window.shot = (name) => new Promise((done) => { shot.done[name] = done; wantsShot(name); }); shot.done = {};"
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
