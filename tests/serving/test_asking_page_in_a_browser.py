"""The page for asking in headless Chromium: by mouse, by keyboard, at the width of a phone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from browser import evaluated, needs_browser
from made import write_video
from small_server import Scorer, Speaker, engine_over, served

from pipeline.domain import Question
from pipeline.serving.engine import Engine

pytestmark = needs_browser
KEY = "0123456789abcdef"

COMMON = """
const settled = (ms) => new Promise((done) => setTimeout(done, ms));
const until = async (holds) => {
  for (let turn = 0; turn < 1200 && !holds(); turn++) await settled(50);
  if (!holds()) throw new Error(`never: ${holds}`);
};
const byId = (id) => document.getElementById(id);
const choose = async (name) => {
  await until(() => [...byId("video").options].some((each) => each.text.startsWith(name)));
  byId("video").value = [...byId("video").options].find((each) => each.text.startsWith(name)).value;
  byId("video").dispatchEvent(new Event("change"));
};
const asking = async (question, options = "") => {
  const before = document.querySelectorAll(".said").length;
  byId("question").value = question;
  byId("options").value = options;
  byId("ask").requestSubmit();
  await until(() => document.querySelectorAll(".said").length > before);
  await until(() => document.querySelector(".seek img[src]"));
  return document.querySelector(".said").textContent;
};
"""


def says(question: Question) -> Any:
    return "nothing in particular" if question.options is None else question.options[-1]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "played.mp4", seconds=6)
    with av.open(str(folder / "unplayed.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 64
        for shade in range(24):
            picture = np.full((64, 64, 3), 8 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        patch.setenv("GENS_CACHE", str(tmp_path_factory.mktemp("cache")))
        with engine_over(Scorer(), Speaker(says)) as made:
            yield made


@pytest.fixture(scope="module")
def address(clips: Path, engine: Engine) -> Iterator[str]:
    with served(engine, clips, key=KEY) as found:
        yield found.removesuffix("v1")


@contextmanager
def blocked_until_withdrawn(engine: Engine) -> Iterator[None]:
    """The sampler waits until somebody withdraws a question."""
    scorer: Any = engine.session._sampler
    before = engine.counts.withdrawn
    is_over = threading.Event()

    def watch() -> None:
        while engine.counts.withdrawn == before and not is_over.wait(0.05):
            pass
        scorer.may_go.set()

    scorer.may_go.clear()
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        is_over.set()
        watching.join()


def opened(address: str, scratch: Path, script: str, size: str = "1280,900") -> Any:
    """What a script gives once the key is given."""
    unlocked = """
    await until(() => document.activeElement.id === "key");
    byId("key").value = "wrong";
    byId("unlock").requestSubmit();
    await until(() => !byId("unlock-told").hidden);
    byId("key").value = KEY;
    byId("unlock").requestSubmit();
    await until(() => !byId("room").hidden);
    """
    return evaluated(address, scratch, COMMON + unlocked.replace("KEY", f'"{KEY}"') + script, size)


def test_a_question_is_asked_and_a_frame_leads_into_the_video(address: str, tmp_path: Path) -> None:
    found = opened(
        address,
        tmp_path,
        """
        const broken = [];
        document.addEventListener("securitypolicyviolation", (event) => broken.push(event.violatedDirective));
        await choose("played");
        await until(() => byId("player").readyState > 0);
        const said = await asking("Which?", "red\\nblue");
        const [, second] = document.querySelectorAll(".seek");
        second.click();
        await until(() => Math.abs(byId("player").currentTime - 3) < 0.1 && !byId("player").seeking);
        const article = document.querySelector("article");
        const playhead = article.querySelector(".playhead").getAttribute("x1");
        const seen = [playhead, article.querySelectorAll(".is-current").length];
        const drawing = article.querySelector(".timeline > svg");
        const { left, top, width } = drawing.getBoundingClientRect();
        drawing.dispatchEvent(new MouseEvent("click", { clientX: left + width / 6, clientY: top + 5, bubbles: true }));
        await until(() => Math.abs(byId("player").currentTime - 1) < 0.1);
        const free = await asking("What else?");
        const hosts = new Set(performance.getEntriesByType("resource").map((entry) => new URL(entry.name).origin));
        return {
          said, seen, free, broken,
          announced: byId("announced").textContent,
          count: document.querySelectorAll("article").length,
          elsewhere: [...hosts].filter((each) => each !== location.origin),
          large: parseFloat(getComputedStyle(document.querySelector(".said")).fontSize),
          progress: byId("progress").hidden,
          failed: byId("failed").textContent,
        };
        """,
    )
    assert (found["said"], found["free"]) == ("B. blue", "nothing in particular")
    assert found["seen"] == ["50%", 1]
    assert found["count"] == 2
    assert found["announced"] == "nothing in particular. 2 frames are shown."
    assert found["large"] >= 24
    assert (found["broken"], found["elsewhere"], found["failed"], found["progress"]) == ([], [], "", True)


BY_KEYBOARD = """
const names = [];
const name = (element) =>
  element.labels?.[0]?.textContent || element.ariaLabel || element.title || element.textContent;
const tabTo = async (holds) => {
  for (let turn = 0; turn < 60 && !holds(document.activeElement); turn++) {
    await press("Tab");
    names.push(name(document.activeElement).trim());
  }
  if (!holds(document.activeElement)) throw new Error(`not reached: ${holds}`);
};
await choose("played");
await until(() => byId("player").readyState > 0);
byId("video").focus();
await tabTo((element) => element.id === "question");
byId("question").value = "Will it end?";
await press("Enter");
await until(() => document.querySelector("[aria-current]")?.dataset.step === "decoding");
const during = [byId("send").disabled, byId("progress").hidden, byId("announced").textContent];
await tabTo((element) => element.id === "stop");
await press("Enter");
await until(() => byId("progress").hidden);
const stopped = [byId("send").disabled, byId("stop").hidden, byId("failed").textContent, document.activeElement.id];
byId("question").value = "Which?";
await press("Enter");
await until(() => document.querySelector(".seek img[src]"));
await tabTo((element) => element.title === "Go to 0:02");
const shown = document.activeElement.getBoundingClientRect();
const stage = document.querySelector(".stage").getBoundingClientRect();
await press("Enter");
await until(() => Math.abs(byId("player").currentTime - 2) < 0.1);
const buttons = [...document.querySelectorAll("#ask button:not([hidden]), .file span")];
return {
  during,
  stopped,
  names,
  wide: document.documentElement.scrollWidth,
  isBelow: shown.top >= stage.bottom - 1,
  inSight: shown.bottom <= innerHeight,
  small: buttons.map((each) => each.getBoundingClientRect().height),
};
"""


def test_it_works_by_keyboard_alone_at_the_width_of_a_phone(address: str, engine: Engine, tmp_path: Path) -> None:
    with blocked_until_withdrawn(engine):
        found = opened(address, tmp_path, BY_KEYBOARD, "390,844")
    assert found["during"] == [True, False, "Opening the video."]
    assert found["stopped"] == [False, True, "", "question"]
    assert all(found["names"])
    assert found["wide"] == 390
    assert found["isBelow"]
    assert found["inSight"]
    assert min(found["small"]) >= 40


def test_of_what_the_browser_cannot_play_the_frames_are_shown_and_a_dropped_file_is_sent(
    address: str, clips: Path, tmp_path: Path
) -> None:
    found = opened(
        address,
        tmp_path,
        """
        await choose("unplayed");
        await until(() => !byId("stills").hidden && byId("still").naturalWidth === 64);
        const told = byId("told").textContent;
        await asking("Which?");
        document.querySelectorAll(".seek")[1].click();
        await until(() => byId("still").src.includes("second=3&") && byId("still").complete);
        const at = [byId("at").textContent, byId("moment").getAttribute("aria-valuetext"), byId("player").hidden];
        const bytes = await (await fetch(`/api/videos/${byId("video").value}/file`)).arrayBuffer();
        const drop = (file) => {
          const dropped = new DataTransfer();
          dropped.items.add(file);
          const given = { dataTransfer: dropped, bubbles: true, cancelable: true };
          byId("screen").dispatchEvent(new DragEvent("drop", given));
        };
        drop(new File([new Uint8Array(2e6)], "large.mp4"));
        const large = byId("told").textContent;
        drop(new File([bytes], "mine.avi"));
        await until(() => byId("video").selectedOptions[0].text.startsWith("mine.avi"));
        await until(() => !byId("stills").hidden && byId("still").naturalWidth === 64);
        const said = await asking("And here?", "x\\ny");
        return { told, at, large, said, focus: document.activeElement.id };
        """,
    )
    assert "cannot play" in found["told"]
    assert found["at"] == ["0:03", "0:03", True]
    assert "the server takes 1.0 MB" in found["large"]
    assert (found["said"], found["focus"]) == ("B. y", "question")
