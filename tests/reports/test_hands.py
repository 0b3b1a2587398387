"""What hands do on the page: sort a table, walk the questions, follow a link, look at a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from browser import evaluated, needs_browser
from sweep_on_disk import Sweep
from thousand import make_thousand

from pipeline.artefacts.rows import AnswerRow
from pipeline.reports.page import write_report
from pipeline.reports.runs import collect
from pipeline.reports.thumbnails import VideoThumbnails
from pipeline.video import Reader

pytestmark = needs_browser
THUMBNAILS = VideoThumbnails(Reader(name="default", backend="auto", threads=1, image_fps=1.0), 160, 70)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight runs over 24 questions."""
    folder = tmp_path_factory.mktemp("hands")
    samplers, answerers = ["uniform", "gens_3b"], ["gpt4o", "qwen2_vl_7b"]
    runs = collect([make_thousand(folder, samplers, answerers, [4, 8], 24, videos=8, told_seconds=60)])
    asked = replace(runs[0], answers=tuple(with_prompt(row) for row in runs[0].answers))
    return write_report([asked, *runs[1:]], THUMBNAILS, folder / "report.html")


PROMPT = 'system:\nBe brief.\nuser:\n<frame 1 at 0.5 s>\nIs it "a" & <b>?'


def with_prompt(row: AnswerRow) -> AnswerRow:
    return replace(row, answer=replace(row.answer, prompt=PROMPT))


def test_the_prompt_is_folded_and_copied_whole(page: Path, tmp_path: Path) -> None:
    is_open, copied, buttons = evaluated(
        page,
        tmp_path,
        """
        let copied = "";
        Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { copied = text; } } });
        const card = document.querySelector(".card");
        card.scrollIntoView();
        card.querySelector("summary").focus();
        const prompt = card.querySelector(".prompt");
        const wasOpen = prompt.open;
        prompt.open = true;
        const button = prompt.querySelector("button");
        button.click();
        await new Promise((done) => setTimeout(done, 50));
        return [wasOpen, copied, prompt.querySelectorAll("button").length];
        """,
    )
    assert not is_open
    assert copied == PROMPT
    assert buttons == 1


@pytest.mark.parametrize("size", ["1280,900", "390,844"])
def test_accuracy_is_shown_against_one_cost_at_a_time(page: Path, tmp_path: Path, size: str) -> None:
    before, after, wide = evaluated(
        page,
        tmp_path,
        """
        document.getElementById("curve-heading").closest("details").open = true;
        const shown = () => [...document.querySelectorAll(".cost-drawing")].map((each) => each.offsetHeight > 0);
        const before = shown();
        document.querySelectorAll(".switch input")[1].click();
        return [before, shown(), document.documentElement.scrollWidth <= innerWidth];
        """,
        size=size,
    )
    assert before == [True, False]  # seconds and dollars: these rows are of before the ledger and know no visual tokens
    assert after == [False, True]
    assert wide


def test_a_click_on_a_heading_sorts_by_it_and_a_second_one_the_other_way(page: Path, tmp_path: Path) -> None:
    found = evaluated(
        page,
        tmp_path,
        """
        const table = document.querySelector(".board");
        const column = () => [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[2].textContent));
        const head = table.tHead.rows[0].cells[2];
        head.querySelector("button").click();
        const down = [column(), head.getAttribute("aria-sort")];
        head.querySelector("button").click();
        return [...down, column(), head.getAttribute("aria-sort")];
        """,
    )
    down, told, up, told_again = found
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert len(set(up)) > 1
    assert (told, told_again) == ("descending", "ascending")


def test_first_question_is_near_and_keys_lead_to_the_next_below_the_toolbar(page: Path, tmp_path: Path) -> None:
    first, seen, closed, opened = evaluated(
        page,
        tmp_path,
        """
        const first = document.querySelector(".card").getBoundingClientRect().top;
        const seen = [];
        const settled = () => new Promise((done) => setTimeout(done, 150));
        for (const key of ["j", "j", "k", "j"]) {
          (document.activeElement ?? document.body).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
          await settled();
          const card = document.activeElement;
          const bar = document.querySelector(".toolbar").getBoundingClientRect().bottom;
          seen.push([card.id, card.getBoundingClientRect().top >= bar, card.getBoundingClientRect().top < bar + 60]);
        }
        const part = document.getElementById("costs-heading").closest("details");
        const closed = part.open;
        location.hash = "#costs-heading";
        await settled();
        return [first, seen, closed, part.open];
        """,
    )
    assert first < 2 * 900
    assert [name for name, *_ in seen] == ["q-1", "q-2", "q-1", "q-2"]
    assert all(below and near for _, below, near in seen), seen
    assert (closed, opened) == (False, True)


def test_a_picture_opens_large_with_the_video_at_its_second(sweep: Sweep, tmp_path: Path) -> None:
    page = write_report(collect([sweep.folder]), THUMBNAILS, tmp_path / "report.html")
    is_open, second, at, is_hidden, focus, without = evaluated(
        page,
        tmp_path,
        """
        const settled = (ms) => new Promise((done) => setTimeout(done, ms));
        const frame = document.querySelectorAll(".frame")[2];
        for (let turn = 0; turn < 200 && !frame.querySelector("button"); turn++) await settled(50);
        frame.querySelector("button").click();
        const dialog = document.querySelector("dialog");
        const video = dialog.querySelector("video");
        const told = () => dialog.querySelector(".notice").textContent;
        for (let turn = 0; turn < 100 && video.hidden && !told(); turn++) await settled(50);
        const seen = [dialog.open, Number(frame.dataset.second), video.currentTime, dialog.querySelector("img").hidden];
        dialog.querySelector("button").click();
        await settled(100);
        const back = document.activeElement === frame.querySelector("button") && !document.querySelector("dialog");
        return [...seen, back, [...document.querySelectorAll("article:not([data-video])")].length];
        """,
    )
    assert is_open
    assert at == pytest.approx(second, abs=0.5)
    assert is_hidden, "the video plays in its place"
    assert focus
    assert without == 1, "of the video that is gone there is nothing to play"
