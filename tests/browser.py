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
from io import BufferedReader, RawIOBase
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

    In it, ``await shot("NAME.png")`` takes a picture of the window into ``scratch``, and ``await press("Tab")`` presses
    a key.
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
            tab = _Tab(commands, replies, scratch)
            width, height = map(int, size.split(","))
            shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            tab.ask("Emulation.setDeviceMetricsOverride", **shape)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            tab.ask("Emulation.setEmulatedMedia", features=[scheme])
            tab.ask("Page.navigate", url=address)
            is_there = f'location.href.startsWith({json.dumps(address)}) && document.readyState === "complete"'
            while not tab.ask("Runtime.evaluate", expression=is_there)["result"].get("value"):
                time.sleep(0.02)
            wrapped = f"{_WISHES}(async () => {{ {script} }})()"
            found = tab.ask("Runtime.evaluate", expression=wrapped, awaitPromise=True, returnByValue=True)
            assert "exceptionDetails" not in found, found["exceptionDetails"]
            return found["result"].get("value")
    finally:
        process.kill()
        process.wait()


_WISHES = """
window.wish = (what) => new Promise((done) => {
  const id = String(Object.keys(wish.done).length);
  wish.done[id] = done;
  wished(JSON.stringify({ id, ...what }));
});
wish.done = {};
window.shot = (name) => wish({ name });
window.press = (key) => wish({ key });
"""


class _Tab:
    """A tab of Chromium, spoken to by its DevTools protocol."""

    def __init__(self, commands: RawIOBase, replies: BufferedReader, scratch: Path) -> None:
        self._commands = commands
        self._replies = replies
        self._scratch = scratch
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        self.ask("Runtime.enable")
        self.ask("Runtime.addBinding", name="wished")

    def ask(self, method: str, **given: Any) -> Any:
        """The result of a command. What the page wishes meanwhile is done."""
        number = self._send(method, given)
        while True:
            message = self._received()
            if message.get("id") == number:
                return message["result"]
            if message.get("method") == "Runtime.bindingCalled":
                self._fulfil(json.loads(message["params"]["payload"]))

    def _fulfil(self, wish: dict[str, str]) -> None:
        if "name" in wish:
            picture = self.ask("Page.captureScreenshot")["data"]
            (self._scratch / wish["name"]).write_bytes(base64.b64decode(picture))
        else:
            key = wish["key"]
            code = {"Tab": 9, "Enter": 13, " ": 32}[key]
            named = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
            text = {"Tab": {}, "Enter": {"text": "\r"}, " ": {"text": " "}}[key]
            self.ask("Input.dispatchKeyEvent", type="keyDown", **named, **text)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **named)
        self._send("Runtime.evaluate", {"expression": f"wish.done[{json.dumps(wish['id'])}]()"})

    def _send(self, method: str, given: dict[str, Any]) -> int:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": given, **self._session}
        self._commands.write(json.dumps(message).encode() + b"\0")
        return number

    def _received(self) -> Any:
        text = bytearray()
        while not text.endswith(b"\0"):
            byte = self._replies.read1(1)
            assert byte, "Chromium has ended"
            text += byte
        return json.loads(text[:-1])


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
